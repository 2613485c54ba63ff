"""Scripts over several runs: grids, seeds and plots. They write pages and pictures for docs."""
