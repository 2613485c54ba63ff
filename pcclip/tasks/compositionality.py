"""Choice between captions and hard negatives, as in SugarCrepe."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from pcclip.data.labelled import read_images
from pcclip.datasets.annotations import read_caption_choices
from pcclip.metrics.compositionality import compositionality
from pcclip.metrics.protocol import Metric
from pcclip.paths import existing_folder
from pcclip.tasks.task import Context, Task

REMEDY = "for SugarCrepe, download COCO's val2017.zip (cocodataset.org) and unpack it there as a whole"


@dataclass(kw_only=True)
class Compositionality(Task):
    """Choices between two captions of an image (`pcclip.metrics.compositionality`)."""

    kind: ClassVar[str] = "compositionality"
    images: str
    """Folder with the images that the captions name; for SugarCrepe this is COCO's `val2017`."""
    captions: str
    """JSON file in SugarCrepe's layout, or a folder of such files. Each file of a folder is a part."""

    def prepare(self) -> None:
        existing_folder(self.images, f"images of {self.title}", REMEDY)
        files = {image.key: image for image in read_images(self.images).images}
        parts = read_caption_choices(self.captions)
        names = list(dict.fromkeys(choice.filename for choices in parts.values() for choice in choices))
        if missing := [name for name in names if name not in files]:
            raise FileNotFoundError(
                f"{self.images}: {len(missing)} of {len(names)} images of {self.title} are missing: {missing[:5]}; {REMEDY}"
            )
        self._images = [files[name] for name in names]
        self._place = {name: index for index, name in enumerate(names)}
        is_file = self.captions.endswith(".json")
        self._parts = {"" if is_file else stem: choices for stem, choices in parts.items()}

    def measure(self, context: Context) -> Iterable[Metric]:
        embeddings, kept = context.embed(self._images)
        row = {image: place for place, image in enumerate(kept)}
        for part, choices in self._parts.items():
            judged = [choice for choice in choices if self._place[choice.filename] in row]
            metric = compositionality(
                context.encoder,
                embeddings,
                torch.tensor([row[self._place[choice.filename]] for choice in judged]),
                [choice.caption for choice in judged],
                [choice.negative_caption for choice in judged],
                bootstrap=context.bootstrap,
            )
            yield replace(metric, part=part)
