"""What ffmpeg says in its log, told from what a file says of itself.

ffmpeg prints the names and tags of files among its own words, and they are anybody's: a title may read like a duration.
"""

import os
import re

_KNOWN = {  # what ffmpeg says, and what it means
    "matches no streams": "no picture in it, only sound",
    "not on whitelist": "its format is none of a video",
    "No space left on device": "no room on the disk",
    "moov atom not found": "cut short: the index at its end is missing",
}


def own_words(log: str, url: str) -> str:
    """A log from its first input on, without the name of that and without all tags.

    Args:
        log: what ffmpeg wrote about one input.
        url: the input, as it was given to ffmpeg.

    Tags stand below a line "Metadata:" and further in than it. Line breaks within them cannot end that: ffmpeg begins
    each of their lines as far in. A name may have breaks of its own, but it is known.
    """
    name = re.sub("[\x01-\x07\x0e-\x1f]", "?", os.fsencode(url).decode(errors="replace"))  # as ffmpeg prints it
    rest = log.partition("Input #0, ")[2].partition(", from '")[2].removeprefix(name)
    kept, tags = [], None  # how far in the tags' head stands, among them
    for line in rest.split("\n"):
        depth = len(line) - len(line.lstrip(" "))
        if tags is None or depth <= tags:
            tags = depth if line.strip() == "Metadata:" else None
            kept.append(line)
    return "\n".join(kept)


def last_words(log: str) -> str:
    """Why ffmpeg gave up, by its log."""
    for sign, words in _KNOWN.items():
        if sign in log:
            return words
    lines = [re.sub(r"^\[[^\]]*\]\s*", "", line.strip()) for line in log.replace("\r", "\n").splitlines()]
    lines = [line for line in lines if line and not line.startswith("frame=")]
    telling = [line for line in lines if re.search(r"error|invalid|moov|not |unable|fail", line, re.IGNORECASE)]
    reasons = [line for line in telling if not re.match(r"Error (opening|binding|splitting)", line)]
    return (reasons or telling or lines or ["ffmpeg said nothing"])[-1]
