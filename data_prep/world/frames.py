"""Sentence frames of the world's describer.

`<X>` and `<Y>` stand for the two pictures, `<X>` being the one that the comparative in `{more}` (or `{thing}`) speaks of.
Other fields: `{less}` the opposite; `{shapes}` the noun for both pictures, with `{are}`, `{look}`, `{sit}`, `{those}`,
`{they}` in its number; `{own}` and `{own_are}` noun and verb in the number of `<X>`; `{ground}` background or backdrop.
"""

from __future__ import annotations

SIZE = (
    "<X> shows {thing} than <Y>",
    "<X> has {thing} than <Y>",
    "there {own_are} {thing} in <X> than in <Y>",
    "compared with <Y>, <X> has {thing}",
    "compared to <Y>, the {shapes} in <X> {are} {more}",
    "the {shapes} in <X> {are} {more} than {those} in <Y>",
    "the {shapes} {are} {more} in <X> than in <Y>",
    "in <X> the {shapes} {are} {more} than in <Y>",
    "the {shapes} of <X> {look} {more} than {those} of <Y>",
    "while the {shapes} in <X> {are} {more}, {those} in <Y> {are} {less}",
    "while <X> has {thing}, <Y> has {opposite}",
    "the {shapes} {are} {less} in <Y>, but {more} in <X>",
    "{thing} can be seen in <X> than in <Y>",
    "of the two, <X> has the {more} {own}",
    "<X> is the one with the {more} {own}",
    "from <Y> to <X> the {shapes} {get} {more}",
    "next to <Y>, the {shapes} of <X> {seem} {more}",
    "looking at both pictures, it is <X> that shows the {more} {own}",
    "you can see that the {shapes} {are} {more} in <X>, and {less} in <Y>",
    "you can see {thing} in <X>, and {opposite} in <Y>",
    "<X> has {thing}, and <Y> has {opposite}",
    "<X> shows {thing}, whereas <Y> shows {opposite}",
    "there {own_are} {thing} in <X>, but {opposite} in <Y>",
    "{thing} can be seen in <X>, {opposite} in <Y>",
    "it is {thing} that <X> shows, and {opposite} that <Y> shows",
    "{thing} can be found in <X>; <Y> has {opposite}",
    "{opposite} can be found in <Y>, and {thing} in <X>",
)
COUNT = (
    "<X> has {thing} than <Y>",
    "<X> shows {thing} than <Y>",
    "<X> contains {thing} than <Y>",
    "there are {thing} in <X> than in <Y>",
    "compared with <Y>, <X> has {thing}",
    "compared to <Y>, there are {thing} in <X>",
    "in <X> there are {thing} than in <Y>",
    "{thing} can be seen in <X> than in <Y>",
    "{thing} appear in <X> than in <Y>",
    "the number of {many} is {higher} in <X> than in <Y>",
    "the number of {many} in <X> is {higher} than that in <Y>",
    "from <Y> to <X> the number of {many} gets {higher}",
    "of the two images, <X> shows {thing}",
    "<X> is the one with {thing}",
    "next to <Y>, <X> seems to have {thing}",
    "while <X> has {thing}, <Y> has {opposite}",
    "looking at both, it is <X> that has {thing}",
    "you can see {thing} in <X>, and {opposite} in <Y>",
    "<X> has {thing}, and <Y> has {opposite}",
    "<X> shows {thing}, whereas <Y> shows {opposite}",
    "there are {thing} in <X>, but {opposite} in <Y>",
    "{thing} can be seen in <X>, {opposite} in <Y>",
    "it is {thing} that <X> shows, and {opposite} that <Y> shows",
    "{thing} can be found in <X>; <Y> has {opposite}",
    "{opposite} can be found in <Y>, and {thing} in <X>",
)
BRIGHTNESS = (
    "<X> has {thing} than <Y>",
    "<X> shows {thing} than <Y>",
    "the {ground} of <X> is {more} than that of <Y>",
    "the {ground} in <X> is {more} than the one in <Y>",
    "the {ground} is {more} in <X> than in <Y>",
    "compared with <Y>, <X> has {thing}",
    "compared to <Y>, the {ground} of <X> is {more}",
    "in <X> the {ground} is {more} than in <Y>",
    "<X> has {thing}, while <Y> has a {less} one",
    "while the {ground} in <X> is {more}, it is {less} in <Y>",
    "the {ground} is {less} in <Y>, but {more} in <X>",
    "<X> is {more} than <Y>",
    "of the two, <X> has the {more} {ground}",
    "<X> is the one with the {more} {ground}",
    "from <Y> to <X> the {ground} gets {more}",
    "next to <Y>, the {ground} of <X> looks {more}",
    "looking at both, it is <X> that has the {more} {ground}",
    "you can see that the {ground} seems {more} in <X>, and {less} in <Y>",
    "<X> has {thing}, and <Y> has {opposite}",
    "there is {thing} in <X>, but {opposite} in <Y>",
)
POSITION = (
    "the {shapes} in <X> {are} {more} than {those} in <Y>",
    "the {shapes} {are} {more} in <X> than in <Y>",
    "in <X> the {shapes} {are} {more} than in <Y>",
    "the {shapes} of <X> {sit} {more} than {those} of <Y>",
    "<X> has its {own} {more} than <Y>",
    "<X> shows the {own} {more} than <Y>",
    "compared with <Y>, <X> has its {own} {more}",
    "compared to <Y>, the {shapes} in <X> {are} {more}",
    "while the {shapes} {sit} {more} in <X>, {they} {sit} {less} in <Y>",
    "the {shapes} {are} {less} in <Y>, but {more} in <X>",
    "the {shapes} can be found {more} in <X> than in <Y>",
    "the {shapes} {sit} {more} in <X> than {they} {do} in <Y>",
    "<X> is the one where the {own} {own_are} {more}",
    "of the two images, <X> has the {own} placed {more}",
    "from <Y> to <X> the {shapes} {get} {more}",
    "next to <Y>, the {shapes} of <X> {look} placed {more}",
    "looking at both, it is <X> that has the {own} {more}",
    "you can see that the {shapes} {are} {more} in <X>, and {less} in <Y>",
    "the {shapes} {are} {more} in <X>, but {less} in <Y>",
    "in <X> the {shapes} {are} {more}, and in <Y> {they} {are} {less}",
)
GRADED_FRAMES = {"size": SIZE, "count": COUNT, "brightness": BRIGHTNESS, "position": POSITION}

# Several things at once about <X>; {things} is e.g. "larger stars and a darker background".
JOINT_THINGS = (
    "<X> has {things} than <Y>",
    "<X> shows {things} than <Y>",
    "compared with <Y>, <X> has {things}",
    "compared to <Y>, there are {things} in <X>",
    "of the two, <X> is the one with {things}",
    "next to <Y>, <X> shows {things}",
    "looking at both pictures, <X> has {things}",
    "in <X> you can see {things} than in <Y>",
)
# {clauses} is e.g. "the stars are larger and the background is darker".
JOINT_CLAUSES = (
    "in <X> {clauses} than in <Y>",
    "compared with <Y>, {clauses} in <X>",
    "{clauses} in <X> than in <Y>",
    "from <Y> to <X>, {clauses}",
    "next to <Y>, {clauses} in <X>",
)
# One thing of each picture: {thing} of <X>, {other} of <Y>.
CROSSED = (
    "<X> has {thing}, while <Y> has {other}",
    "while <X> shows {thing}, <Y> has {other}",
    "<X> has {thing}, but <Y> shows {other}",
    "<X> is the one with {thing}, whereas <Y> is the one with {other}",
    "you can see {thing} in <X>, and {other} in <Y>",
)
# What each picture shows, without comparatives: {this} in <X>, {that} in <Y>.
CONTRAST = (
    "<X> shows {this}, while <Y> shows {that}",
    "<X> has {this}, whereas <Y> has {that}",
    "there {this_are} {this} in <X>, whereas <Y> has {that}",
    "there {this_are} {this} in <X>, but {that} in <Y>",
    "{this} can be seen in <X>, and {that} in <Y>",
    "you can see {this} in <X> and {that} in <Y>",
    "unlike <Y>, which shows {that}, <X> shows {this}",
    "compared with <Y>, which has {that}, <X> has {this}",
    "while <Y> contains {that}, <X> contains {this}",
    "<X> is a picture of {this}, and <Y> of {that}",
    "in <X> we see {this}; in <Y> we see {that}",
    "instead of {that} as in <Y>, <X> has {this}",
    "where <Y> has {that}, <X> has {this}",
    "{this} appear_s in <X>, but {that} appear_t in <Y>",
)
# Only for shapes that differ in colour alone.
COLOURED = (
    "the {shapes} {are} {this} in <X> but {that} in <Y>",
    "the {shapes} in <X> {are} {this}, while {those} in <Y> {are} {that}",
    "the colour of the {shapes} is {this} in <X> and {that} in <Y>",
    "<X> has {this} as the colour of its {own}, <Y> has {that}",
)
