"""What was read of a folder of images and what was not, in words: facts, and warnings where it may change an answer."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import mean, median

from experiments.images.tasks.image_files.decoding import DEEP_BITS, Picture
from experiments.images.tasks.image_files.layout import Layout, part_of
from experiments.images.tasks.image_files.masks import mask_warning
from experiments.images.tasks.image_files.walk import (
    IMAGE_EXTENSIONS,
    NO_EXTENSION,
    ImageFile,
    Unread,
    extension,
    loose_files,
    num_images_in,
)
from experiments.images.tasks.reading import GROUNDS, USUAL, Reading, ToRgb
from ledger.config import Fit
from ledger.plain_text import listed, plain

LARGE_SHARE = 0.1
"""Share of all images: if so many are not read, or so much of them is cut off, that is a warning."""
CLASS_SHARE = 0.25
"""Share of a class's images: if so many are not read, that is a warning."""
FEW_LEVELS = 64
"""Grey levels; an image with fewer looks posterised."""

OR_RENAME = "; those whose content stands in brackets only need its extension"

Remark = tuple[str, str] | str
"""A fact, which is a heading and a text, or a warning, which is a sentence."""


def of_files(layout: Layout, parts: dict[str, list[ImageFile]], unread: Unread, more: Iterable[Remark] = ()) -> Reading:
    """What the scan of a folder tells. parts: the images that are read. more: what else there is to say."""
    files = [file for part in parts.values() for file in part]
    remarks: list[Remark] = [("Parts", layout.why), *more, *layout.warnings, *_not_read(layout, files, unread)]
    if num_outside := sum(file.is_outside for file in files):
        remarks.append(("Links", f"{num_outside:,} of {len(files):,} images are links to files outside the folder"))
    if "" in layout.parts and (inner := _same_folders(files)):
        remarks.append(
            f"Every class folder holds the same folders ({listed(map(repr, inner))}): if these are the"
            " classes, and the folders above them are not, give the folder that holds one set of them."
        )
    if masks := mask_warning(files):
        remarks.append(masks)
    return _reading(remarks)


def of_pictures(pictures: Sequence[Picture], classes: Sequence[str], image_px: int, to_rgb: ToRgb, fit: Fit) -> Reading:
    """What decoding a folder told, one picture a file. classes: the class of each."""
    modes = Counter(picture.mode for picture in pictures)
    remarks = [
        *_shapes(Counter(picture.size for picture in pictures), image_px, fit),
        ("Modes", ", ".join(f"{_MODES.get(mode, mode)} {num:,}" for mode, num in modes.most_common())),
    ]
    if all(picture.is_grey for picture in pictures):
        remarks.append(("Channels", "one, since all images are grey"))
    deep = [*_deep(pictures, to_rgb.grey_bits), *_floats(pictures, to_rgb.float_range)]
    is_known_faint = any(isinstance(item, str) for item in deep)
    remarks += [*deep, *_transparency(pictures, to_rgb.ground), *_values(pictures, classes, is_known_faint)]
    return _reading([*remarks, *_frames(pictures)], to_rgb)


def _reading(remarks: Iterable[Remark], to_rgb: ToRgb = USUAL) -> Reading:
    """Facts of one heading become one."""
    facts: dict[str, list[str]] = {}
    warnings = []
    for item in remarks:
        if isinstance(item, str):
            warnings.append(plain(item))
        else:
            facts.setdefault(item[0], []).append(item[1])
    return Reading([(heading, plain("; ".join(texts))) for heading, texts in facts.items()], warnings, to_rgb)


_MODES = {
    "1": "black and white (1)", "L": "grey (L)", "LA": "grey with transparency (LA)", "P": "palette (P)",
    "RGBA": "RGB with transparency (RGBA)", "CMYK": "CMYK", "I;16": "16-bit grey (I;16)",
    "I;16B": "16-bit grey (I;16B)", "I": "16-bit grey in 32 bits (I)", "RGB;16": "RGB of 16 bits a channel",
    "F": "floating-point grey (F)",
    "RGBA;16": "RGB or grey of 16 bits a channel with transparency",
}  # fmt: skip


def _same_folders(files: Sequence[ImageFile]) -> list[str]:
    """The folders that lie in each class and hold all of its images; none, or one, are not looked at."""
    inner: dict[str, set[str]] = {}
    for file in files:
        _, *below = file.path.split("/")
        inner.setdefault(file.class_name, set()).add(below[0] if len(below) > 1 else "")
    first, *others = inner.values()
    return sorted(first) if len(first) > 1 and "" not in first and all(names == first for names in others) else []


def _not_read(layout: Layout, files: Sequence[ImageFile], unread: Unread) -> Iterator[Remark]:
    for name in layout.spare:
        images_in = _count(num_images_in(layout.root / name), "image")
        yield "Not read", f"{name}/: a further part with {images_in}"
        instead = f": validation images are taken from {layout.parts['train']}; move its images there to use them"
        yield f"The part {name}/ with {images_in} is not read{instead if part_of(name) == 'val' else ''}."
    nums = {name: num for name in layout.others if (num := num_images_in(layout.root / name))}
    yield from (("Not read", f"{name}/: {_count(num, 'image')}") for name, num in nums.items())
    beside = Counter(
        extension(name) for part in {"", *layout.parts.values()} for name in loose_files(layout.root / part)
    )
    images = Counter({kind: num for kind, num in beside.items() if kind in IMAGE_EXTENSIONS})
    if images:
        yield "Not read", f"beside the class folders: {kinds_text(images)}"
    if (num_beside := sum(nums.values()) + images.total()) > LARGE_SHARE * len(files):
        yield (
            f"{_count(num_beside, 'image')} outside the class folders {'is' if num_beside == 1 else 'are'} not read:"
            " move them into the folders of their classes, if they belong to some."
        )
    lost, others = unread.sorted_out(layout.root)
    if lost:
        yield "Not read", listed((f"class {name!r}: {kinds_text(kinds)}" for name, kinds in lost.items()), between="; ")
    num_read = Counter(file.class_name for file in files)
    large = [
        f"{kinds_text(kinds)} of class {name!r}, which has {_count(num_read[name], 'image')} without them"
        for name, kinds in lost.items()
        if kinds.total() >= CLASS_SHARE * (kinds.total() + num_read[name])
    ]
    if large:
        yield (
            f"Files of formats that are not decoded are left out: {listed(large, between='; ')}."
            f" Convert them to PNG or JPEG{OR_RENAME}."
        )
    if texts := beside - images + others:
        yield "Not read", f"files that are not images: {kinds_text(texts)}"
    hidden = {folder: num for folder in unread.folders if (num := num_images_in(folder))}
    tops = {layout.root / part for part in layout.parts.values()}
    is_like_class = any(folder.parent in tops and folder.name.startswith(".") for folder in hidden)
    if (num := sum(hidden.values())) > LARGE_SHARE * len(files) or is_like_class:
        names = listed(sorted({folder.name for folder in hidden}))
        yield "Not read", f"{_count(num, 'image')} in hidden folders and those of the system ({names})"


def _shapes(sizes: Counter[tuple[int, int]], image_px: int, fit: Fit) -> Iterator[Remark]:
    """What becomes of pictures of these sizes on their way into a square."""
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    (common, num_common), *_ = sizes.most_common(1)
    num_other = sum(num for (width, height), num in sizes.items() if width != height)
    squares = f"{num_other:,} of {sizes.total():,} are not square" if num_other else "all square"
    span = f"{_by(by_area[0])} to {_by(by_area[-1])} px, most often {_by(common)} ({_count(num_common, 'file')})"
    yield "Sizes", f"all {_by(common)} px" if len(sizes) == 1 else f"{span}; {squares}"
    if num_other:
        yield from _made_square(sizes, fit)
    widths, heights = zip(*sizes.elements(), strict=True)
    if fit == "stretch" and num_other:
        sides = [("width ", widths), ("height ", heights)]
    else:
        sides = [("", tuple(map(max if fit == "pad" else min, widths, heights)))]
    for name, side in sides:
        if set(side) != {image_px}:
            yield "Resizing", f"to {image_px} x {image_px} px: {name}{_resizing([each / image_px for each in side])}"


def _made_square(sizes: Counter[tuple[int, int]], fit: Fit) -> Iterator[Remark]:
    """What is lost of pictures of which some are not square."""
    ratios = [max(size) / min(size) for size in sizes.elements()]
    extra = [1 - 1 / ratio for ratio in ratios]
    same, most = len(sizes) == 1, f" on average, {100 * max(extra):.0f} % at worst"
    share = f"{100 * mean(extra):.0f} % of {'each' if same else 'a'}"
    if fit == "pad":
        yield "Padding", f"all of each picture is read, between black bars: {share} square{'' if same else most}"
    elif fit == "stretch":
        times = f"{mean(ratios):.3g} times" + ("" if same else f" on average, {max(ratios):.3g} times at worst")
        yield "Stretching", f"all of each picture is read, its longer side shortened against the other one, {times}"
        if mean(extra) > LARGE_SHARE:
            yield (
                "Pictures are stretched to squares, so a thing that lies at another angle in its picture has another"
                " shape in the square: no turn of the square brings them together. protocol.fit: pad keeps shapes."
            )
    else:
        lost = f"{share} {_by(next(iter(sizes)))} picture" if same else f"{share} picture{most}"
        is_much = mean(extra) > LARGE_SHARE  # then a warning says how much
        yield (
            "Cropping",
            "the middle square is read" + ("" if is_much else f", without {lost}; protocol.fit: pad keeps all"),
        )
        if is_much:
            yield (
                f"Only the middle square is read, without {lost}: what lies at the edges is lost."
                " protocol.fit: pad reads all, between black bars; stretch reads all, out of shape."
            )


def _resizing(factors: Sequence[float]) -> str:
    """How much smaller pictures become by these factors, and what of them that leaves out."""
    low, middle, high = min(factors), median(factors), max(factors)
    spread = "" if low == high else f" (from {_times(low)} to {_times(high)})"
    lost = f"; details under {middle:.2g} px of a file are lost (protocol.image_px)" if middle > 1 else ""
    return f"{_times(middle)}{spread}{lost}"


def _deep(pictures: Sequence[Picture], grey_bits: int) -> Iterator[Remark]:
    ranges = [picture.grey for picture in pictures if picture.grey]
    if ranges:
        darkest, brightest = min(low for low, _ in ranges), max(high for _, high in ranges)
        largest = 2**grey_bits - 1
        scaled = f"read as {grey_bits} bits: " + ("kept" if grey_bits == 8 else f"0 to {largest:,} become 0 to 255")
        files = _count(len(ranges), "file")
        yield "16-bit grey", f"{files} with values from {darkest:,} to {brightest:,}, {scaled}"
        levels = median((high * 255 // largest) - (low * 255 // largest) + 1 for low, high in ranges)
        if grey_bits > 8 and levels < FEW_LEVELS:
            yield (
                f"16-bit grey images keep few of their levels: half of them have {levels:.0f} or fewer of 256, since"
                f" one scale is taken for all (0 to {largest:,}). Stretch the values that matter to 0 to 65,535 before."
            )
    if num_deep := sum(picture.mode.endswith(";16") and not picture.grey for picture in pictures):
        of = "each channel" if grey_bits == DEEP_BITS else f"{grey_bits} that are used"
        yield "16-bit colour", f"{_count(num_deep, 'file')}, of which the upper 8 bits of {of} are read"


def _floats(pictures: Sequence[Picture], span: tuple[float, float] | None) -> Iterator[Remark]:
    if span is None:
        return
    low, high = span
    own = [picture.floats for picture in pictures if picture.floats]
    lowest, highest = min(each for each, _ in own), max(each for _, each in own)
    scaled = f"values from {lowest:g} to {highest:g}: {low:g} to {high:g} become 0 to 255"
    yield "Floating point", f"{_count(len(own), 'file')} with {scaled}"
    levels = median(255 * (most - least) / (high - low) + 1 for least, most in own)
    if levels < FEW_LEVELS:
        yield (
            f"Images in floating point keep few of their levels: half of them have {levels:.0f} or fewer of 256, since"
            f" one scale is taken for all ({low:g} to {high:g}). Clip values far outside of the others before."
        )


def best_ground(pictures: Sequence[Picture]) -> str:
    """White, unless many images with transparent parts are nearly of one colour over it: then what spares most of them.

    It is one for all images, so that it tells nothing of their classes.
    """
    lost = _num_lost(pictures)
    num = sum(picture.alpha is not None for picture in pictures)
    return GROUNDS[0] if lost[GROUNDS[0]] <= LARGE_SHARE * num else min(GROUNDS, key=lost.__getitem__)


def _num_lost(pictures: Sequence[Picture]) -> Counter[str]:
    """How many are nearly of one colour over each ground, although not over all of them."""
    lost = [picture.alpha.lost_over for picture in pictures if picture.alpha]
    return Counter(ground for grounds in lost if len(grounds) < len(GROUNDS) for ground in grounds)


def _transparency(pictures: Sequence[Picture], ground: str) -> Iterator[Remark]:
    alphas = [picture.alpha for picture in pictures if picture.alpha]
    num_ignored = sum(alpha.is_ignored for alpha in alphas)
    if num := len(alphas) - num_ignored:
        why = f", since {_num_lost(pictures)[GROUNDS[0]]:,} are nearly of one colour over {GROUNDS[0]}"
        yield "Transparency", f"{_count(num, 'image')} drawn over {ground}{why if ground != GROUNDS[0] else ''}"
    if num_ignored:
        yield "Transparency", f"{_count(num_ignored, 'image')} transparent throughout and read as if opaque"
    if (num := sum(alpha.is_veiled for alpha in alphas)) > LARGE_SHARE * len(pictures):
        yield (
            f"{num:,} of {len(pictures):,} images are half transparent in most of their pixels, and paler for it: if"
            " their fourth band is something else, such as infrared, save them with their three colours only."
        )


def _values(pictures: Sequence[Picture], classes: Sequence[str], is_known_faint: bool) -> Iterator[Remark]:
    darkest, brightest = min(p.darkest for p in pictures), max(p.brightest for p in pictures)
    yield "Values", f"{darkest} to {brightest} after decoding and resizing; 0 is black and 255 white"
    plain_ones = Counter(name for picture, name in zip(pictures, classes, strict=True) if picture.is_plain)
    num = plain_ones.total()
    if num == len(pictures):
        yield "All images are of one colour throughout: nothing in them can be learned but that colour."
        return
    if plain_ones:
        named = listed(f"{num:,} of class {name!r}" for name, num in plain_ones.most_common())
        are = f"{_count(num, 'image')} of {len(pictures):,} {'is' if num == 1 else 'are'}"
        yield f"{are} of one colour throughout: {named}."
    levels = median(picture.brightest - picture.darkest + 1 for picture in pictures)
    if levels < FEW_LEVELS and not is_known_faint:
        yield (
            f"The images are faint: half of them use {levels:.0f} or fewer of 256 levels ({darkest} to {brightest} in"
            " all). Stretch them to 0 to 255 before, if they were not meant to look like that."
        )


def _frames(pictures: Sequence[Picture]) -> Iterator[Remark]:
    if num_turned := sum(picture.is_turned for picture in pictures):
        yield "Turned", f"{_count(num_turned, 'file')} turned upright by the EXIF tag"
    num_more = sum(picture.has_more for picture in pictures)
    num_blank = sum(picture.has_more and picture.is_plain for picture in pictures)
    if num_more:
        yield "Frames", f"{_count(num_more, 'file')} with several frames or pages, of which the first is read"
    if num_more > LARGE_SHARE * len(pictures) and num_blank < num_more:
        yield (
            f"{num_more:,} of {len(pictures):,} files have several frames or pages, of which only the first is"
            " read: save those that matter as files of their own."
        )
    if num_blank:
        yield (
            f"The first frame or page of {_count(num_blank, 'file')} is of one colour throughout, and the others are"
            " not read: save the one that matters as a file of its own."
        )


def _count(num: int, what: str) -> str:
    return f"{num:,} {what}{'s' * (num != 1)}"


def kinds_text(kinds: Counter[str]) -> str:
    """How many files there are of each kind, the most frequent first."""
    return listed(f"{num:,} {kind or NO_EXTENSION}" for kind, num in kinds.most_common())


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}"


def _times(factor: float) -> str:
    if factor == 1:
        return "as they are"
    return f"{factor:.3g} times smaller" if factor > 1 else f"{1 / factor:.3g} times larger"
