"""What was read of a folder of images and what was not, in words: facts, and warnings where it may change an answer."""

from collections import Counter
from collections.abc import Sequence
from statistics import mean, median

from experiments.images.tasks.image_files.decoding import DEEP_BITS, Picture
from experiments.images.tasks.image_files.layout import Layout, part_of
from experiments.images.tasks.image_files.masks import mask_warning
from experiments.images.tasks.image_files.walk import (
    NO_EXTENSION,
    UNREAD_EXTENSIONS,
    ImageFile,
    Unread,
    extension,
    is_image,
    loose_files,
    num_images_in,
)
from experiments.images.tasks.reading import GROUNDS, Reading, ToRgb
from ledger.plain_text import listed, plain

LARGE_SHARE = 0.1
"""Of all images: so many that are not read, or of which so much is cut off, are a warning."""
CLASS_SHARE = 0.25
"""Of a class's images: so many that are not read are a warning."""
FEW_LEVELS = 64
"""Of grey; an image with fewer looks posterised."""

OR_RENAME = "; those whose content stands in brackets only need its extension"

Facts = list[tuple[str, str]]


def of_files(layout: Layout, parts: dict[str, list[ImageFile]], unread: Unread) -> Reading:
    """What the scan of a folder tells. parts: the images that are read."""
    files = [file for part in parts.values() for file in part]
    facts: Facts = [("Parts", plain(layout.why))]
    left, warnings = _not_read(layout, files, unread)
    if left:
        facts.append(("Not read", plain("; ".join(left))))
    if num_outside := sum(file.is_outside for file in files):
        facts.append(("Links", f"{num_outside:,} of {len(files):,} images are links to files outside the folder"))
    if "" in layout.parts and (inner := _same_folders(files)):
        warnings.append(
            f"Every class folder holds the same folders ({listed(map(repr, inner))}): if these are the"
            " classes, and the folders above them are not, give the folder that holds one set of them."
        )
    if masks := mask_warning(files):
        warnings.append(masks)
    return Reading(facts, [plain(text) for text in (*layout.warnings, *warnings)])


def of_pictures(pictures: Sequence[Picture], classes: Sequence[str], image_px: int, to_rgb: ToRgb) -> Reading:
    """What decoding a folder told, one picture a file. classes: the class of each."""
    facts, warnings = _shapes(pictures, image_px)
    modes = Counter(picture.mode for picture in pictures)
    facts.append(("Modes", ", ".join(f"{_MODES.get(mode, mode)} {num:,}" for mode, num in modes.most_common())))
    if all(picture.is_grey for picture in pictures):
        facts.append(("Channels", "one, since all images are grey"))
    deep_facts, deep_warnings = _deep(pictures, to_rgb.grey_bits)
    alpha_facts, alpha_warnings = _transparency(pictures, to_rgb.ground)
    value_facts, value_warnings = _values(pictures, classes, is_known_faint=bool(deep_warnings))
    frame_facts, frame_warnings = _frames(pictures)
    facts += deep_facts + alpha_facts + value_facts + frame_facts
    warnings += deep_warnings + alpha_warnings + value_warnings + frame_warnings
    return Reading(facts, warnings, to_rgb)


_MODES = {
    "1": "black and white (1)", "L": "grey (L)", "LA": "grey with transparency (LA)", "P": "palette (P)",
    "RGBA": "RGB with transparency (RGBA)", "CMYK": "CMYK", "I;16": "16-bit grey (I;16)",
    "I;16B": "16-bit grey (I;16B)", "I": "16-bit grey in 32 bits (I)", "RGB;16": "RGB of 16 bits a channel",
    "RGBA;16": "RGB or grey of 16 bits a channel with transparency",
}  # fmt: skip


def _same_folders(files: Sequence[ImageFile]) -> list[str]:
    """The folders that lie in each class and hold all of its images; none, or one, are not looked at."""
    inner: dict[str, set[str]] = {}
    for file in files:
        _, *below = file.path.split("/")
        inner.setdefault(file.class_name, set()).add(below[0] if len(below) > 1 else "")
    first, *others = inner.values()
    return sorted(first) if len(first) > 1 and "" not in first and all(each == first for each in others) else []


def _not_read(layout: Layout, files: Sequence[ImageFile], unread: Unread) -> tuple[list[str], list[str]]:
    left, warnings, num_beside = [], [], 0
    for name in layout.spare:
        num = num_images_in([layout.root / name])
        left.append(f"{name}/: a further part with {_count(num, 'image')}")
        instead = f": validation images are taken from {layout.parts['train']}; move its images there to use them"
        more = instead if part_of(name) == "val" else ""
        warnings.append(f"The part {name}/ with {_count(num, 'image')} is not read{more}.")
    for name in layout.others:
        if num := num_images_in([layout.root / name]):
            left.append(f"{name}/: {_count(num, 'image')}")
            num_beside += num
    beside = [name for part in {"", *layout.parts.values()} for name in loose_files(layout.root / part)]
    images = Counter(extension(name) for name in beside if is_image(name) or extension(name) in UNREAD_EXTENSIONS)
    if images:
        left.append(f"beside the class folders: {kinds_text(images)}")
        num_beside += images.total()
    if num_beside > LARGE_SHARE * len(files):
        warnings.append(
            f"{_count(num_beside, 'image')} outside the class folders {'is' if num_beside == 1 else 'are'} not read:"
            " move them into the folders of their classes, if they belong to some."
        )
    lost, others = unread.sorted_out(layout.root)
    num_read = Counter(file.class_name for file in files)
    if lost:
        left.append(listed((f"class {name!r}: {kinds_text(kinds)}" for name, kinds in lost.items()), between="; "))
    large = [
        f"{kinds_text(kinds)} of class {name!r}, which has {_count(num_read[name], 'image')} without them"
        for name, kinds in lost.items()
        if kinds.total() >= CLASS_SHARE * (kinds.total() + num_read[name])
    ]
    if large:
        warnings.append(
            f"Files of formats that are not decoded are left out: {listed(large, between='; ')}."
            f" Convert them to PNG or JPEG{OR_RENAME}."
        )
    texts = Counter(extension(name) for name in beside) - images
    texts.update(others)
    if texts:
        left.append(f"files that are not images: {kinds_text(texts)}")
    hidden = {folder: num for folder in unread.folders if (num := num_images_in([folder]))}
    num_hidden = sum(hidden.values())
    tops = {layout.root / part for part in layout.parts.values()}
    is_like_class = any(folder.parent in tops and folder.name.startswith(".") for folder in hidden)
    if num_hidden > LARGE_SHARE * len(files) or is_like_class:
        names = sorted({folder.name for folder in hidden})
        left.append(f"{_count(num_hidden, 'image')} in hidden folders and those of the system ({listed(names)})")
    return left, warnings


def _shapes(pictures: Sequence[Picture], image_px: int) -> tuple[Facts, list[str]]:
    sizes = Counter(picture.size for picture in pictures)
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    (common, num_common), *_ = sizes.most_common(1)
    num_other = sum(num for (width, height), num in sizes.items() if width != height)
    if len(sizes) == 1:
        sized = f"all {_by(common)} px"
    else:
        sized = f"{_by(by_area[0])} to {_by(by_area[-1])} px, most often {_by(common)} ({_count(num_common, 'file')})"
        sized += f"; {num_other:,} of {len(pictures):,} are not square" if num_other else "; all square"
    facts = [("Sizes", sized)]
    warnings = []
    cut = [1 - min(size) / max(size) for size in sizes.elements()]
    average = f"{100 * mean(cut):.0f} % of the pixels"
    average += f" on average, {100 * max(cut):.0f} % at worst," if len(sizes) > 1 else ""
    if num_other:
        facts.append(("Cropping", f"the middle square is read; {average} are cut off"))
    if mean(cut) > LARGE_SHARE:
        warnings.append(
            f"Only the middle square of each picture is read, and {average} are cut off: what lies at the edges is"
            " lost. Pad the pictures to squares yourself if that matters."
        )
    factors = [min(size) / image_px for size in sizes.elements()]
    if set(factors) != {1.0}:
        low, middle, high = min(factors), median(factors), max(factors)
        spread = "" if low == high else f" (from {_times(low)} to {_times(high)})"
        facts.append(("Resizing", f"to {image_px} x {image_px} px: {_times(middle)}{spread}"))
    return facts, warnings


def _deep(pictures: Sequence[Picture], grey_bits: int) -> tuple[Facts, list[str]]:
    facts: Facts = []
    warnings = []
    ranges = [picture.grey for picture in pictures if picture.grey]
    if ranges:
        darkest, brightest = min(low for low, _ in ranges), max(high for _, high in ranges)
        largest = 2**grey_bits - 1
        scaled = f"read as {grey_bits} bits: " + ("kept" if grey_bits == 8 else f"0 to {largest:,} become 0 to 255")
        files = _count(len(ranges), "file")
        facts.append(("16-bit grey", f"{files} with values from {darkest:,} to {brightest:,}, {scaled}"))
        levels = median((high * 255 // largest) - (low * 255 // largest) + 1 for low, high in ranges)
        if grey_bits > 8 and levels < FEW_LEVELS:
            warnings.append(
                f"16-bit grey images keep few of their levels: half of them have {levels:.0f} or fewer of 256, since"
                f" one scale is taken for all (0 to {largest:,}). Stretch the values that matter to 0 to 65,535 before."
            )
    if num_deep := sum(picture.mode.endswith(";16") and not picture.grey for picture in pictures):
        of = "" if grey_bits == DEEP_BITS else f" {grey_bits} that are used"
        text = f"of which the upper 8 bits of{of or ' each channel'} are read"
        facts.append(("16-bit colour", f"{_count(num_deep, 'file')}, {text}"))
    return facts, warnings


def best_ground(pictures: Sequence[Picture]) -> str:
    """White, unless many images with transparent parts are nearly of one colour over it: then what spares most of them.

    It is one for all images, so that it tells nothing of their classes.
    """
    lost = _num_lost(pictures)
    num = sum(picture.alpha is not None for picture in pictures)
    return GROUNDS[0] if lost[GROUNDS[0]] <= LARGE_SHARE * num else min(GROUNDS, key=lost.__getitem__)


def _num_lost(pictures: Sequence[Picture]) -> Counter[str]:
    """How many are nearly of one colour over each ground, although not over all of them."""
    found = [picture.alpha.lost_over for picture in pictures if picture.alpha]
    return Counter(ground for grounds in found if len(grounds) < len(GROUNDS) for ground in grounds)


def _transparency(pictures: Sequence[Picture], ground: str) -> tuple[Facts, list[str]]:
    found = [picture.alpha for picture in pictures if picture.alpha]
    texts, warnings = [], []
    if num := sum(not alpha.is_ignored for alpha in found):
        why = f", since {_num_lost(pictures)[GROUNDS[0]]:,} are nearly of one colour over {GROUNDS[0]}"
        texts.append(f"{_count(num, 'image')} drawn over {ground}{why if ground != GROUNDS[0] else ''}")
    if num := sum(alpha.is_ignored for alpha in found):
        texts.append(f"{_count(num, 'image')} transparent throughout and read as if opaque")
    if (num := sum(alpha.is_veiled for alpha in found)) > LARGE_SHARE * len(pictures):
        warnings.append(
            f"{num:,} of {len(pictures):,} images are half transparent in most of their pixels, and paler for it: if"
            " their fourth band is something else, such as infrared, save them with their three colours only."
        )
    return ([("Transparency", "; ".join(texts))] if texts else []), warnings


def _values(pictures: Sequence[Picture], classes: Sequence[str], *, is_known_faint: bool) -> tuple[Facts, list[str]]:
    darkest, brightest = min(each.darkest for each in pictures), max(each.brightest for each in pictures)
    facts = [("Values", f"{darkest} to {brightest} after decoding and resizing; 0 is black and 255 white")]
    warnings = []
    plain_ones = Counter(name for each, name in zip(pictures, classes, strict=True) if each.is_plain)
    if len(pictures) == plain_ones.total():
        return facts, ["All images are of one colour throughout: nothing in them can be learned but that colour."]
    if plain_ones:
        named = listed(f"{num:,} of class {name!r}" for name, num in plain_ones.most_common())
        num = plain_ones.total()
        are = f"{_count(num, 'image')} of {len(pictures):,} {'is' if num == 1 else 'are'}"
        warnings.append(f"{are} of one colour throughout: {plain(named)}.")
    levels = median(each.brightest - each.darkest + 1 for each in pictures)
    if levels < FEW_LEVELS and not is_known_faint:
        warnings.append(
            f"The images are faint: half of them use {levels:.0f} or fewer of 256 levels ({darkest} to {brightest} in"
            " all). Stretch them to 0 to 255 before, if they were not meant to look like that."
        )
    return facts, warnings


def _frames(pictures: Sequence[Picture]) -> tuple[Facts, list[str]]:
    facts: Facts = []
    warnings = []
    if num_turned := sum(picture.is_turned for picture in pictures):
        facts.append(("Turned", f"{_count(num_turned, 'file')} turned upright by the EXIF tag"))
    num_blank = sum(picture.has_more and picture.is_plain for picture in pictures)
    if num_more := sum(picture.has_more for picture in pictures):
        facts.append(("Frames", f"{_count(num_more, 'file')} with several frames or pages, of which the first is read"))
        if num_more > LARGE_SHARE * len(pictures) and num_blank < num_more:
            warnings.append(
                f"{num_more:,} of {len(pictures):,} files have several frames or pages, of which only the first is"
                " read: save those that matter as files of their own."
            )
    if num_blank:
        warnings.append(
            f"The first frame or page of {_count(num_blank, 'file')} is of one colour throughout, and the others are"
            " not read: save the one that matters as a file of its own."
        )
    return facts, warnings


def _count(num: int, what: str) -> str:
    return f"{num:,} {what}" + ("" if num == 1 else "es" if what.endswith("s") else "s")


def kinds_text(kinds: Counter[str]) -> str:
    return listed(f"{num:,} {kind or NO_EXTENSION}" for kind, num in kinds.most_common())


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}"


def _times(factor: float) -> str:
    if factor == 1:
        return "as they are"
    return f"{factor:.3g} times smaller" if factor > 1 else f"{1 / factor:.3g} times larger"
