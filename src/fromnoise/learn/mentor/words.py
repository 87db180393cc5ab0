"""Words as an index wants them: identifiers split, endings cut off, the field's synonyms made one.

The same function reads the course and the questions, so a cut that is wrong for a dictionary
("nois") does no harm: both sides make it.
"""

import re
from functools import lru_cache
from itertools import pairwise

# What is rewritten before words are split: names that hold signs or a single letter, formulas.
PHRASES = (
    (r"ᾱ|\balphas?(?:[ _-]?bars?|_cumprod)?\b", "alphabar"),
    (r"\beuler[ _-]a(?:ncestral)?\b", "euler ancestral"),
    (r"\bdpm2[ _-]a\b", "dpm2 ancestral"),
    (r"σ|\bsigmas\b", "sigma"),
    (r"β", "beta"),
    (r"(?-i:\bAND\b)", "andoperator"),
    (r"√|\bsqrt\b", "square root"),
    (r"\bu[ -]?nets?\b", "unet"),
    (r"\bcfg[ _-]?(?:\+\+|pp)", "cfgpp"),
    (r"\bdpm\+\+", "dpmpp"),
    (r"\bclassifier[ -]free\b", "cfg"),
    (r"\bsuper[ -]resol\w+", "upscaler"),
    (r"\b3[ -]?d(?:imensional)?\b|\bthree dimensions\b", "threed"),
    (r"\bauto[ -]encod\w*", "autoencoder"),
    (r"\btime[ -]steps?\b", "timestep"),
    (r"\bhires?\b|\bhigh[ -]res(?:olution)?\b", "hires"),
    (r"\bmin[ -]snr\b", "minsnr"),
    (r"\bsignal[ -](?:to[ -])?noise(?: ratio)?\b", "snr"),
    (r"\blearning[ -]rates?\b", "learningrate"),
    (r"\bv[ -]prediction\b", "vprediction prediction"),
    (r"\btoo (?:much|many|high|large|strong)\b", "excess"),
    (r"\bnegative[ -]prompts?\b", "negativeprompt"),
    (r"\bheld[ -]out\b|\bholding out\b", "heldout"),
    (r"\bimg2img\b|\bimage to image\b", "edit picture"),
    (r"\binterpolat(?:es|ed|ing|ion)\b", "interpolate"),
    (r"\bspacings?\b", "levelspacing spacing"),
    (r"\b(?:once|(?:one|single)[ -](?:step|look|call|shot|pass))\b", "onelook"),
    (r"\b(?:don|doesn|isn|can|didn|won)['’]t\b", "not"),
    (r"\b(?:graphics?|video) cards?\b", "gpu"),
    (r"\bhugging ?face\b", "huggingface hub"),
    (r"\bfine[ -]?tun\w*", "finetune train"),
    (r"\bfrom (?:scratch|zero|nothing)\b", "fromnothing"),
    (r"\bpower (?:cut|failure|outage)\b", "crash"),
    (r"\bside by side\b", "grid compare"),
    (r"\bcrtl|ctl\b", "ctrl"),
)
PHRASE = re.compile("|".join(f"({pattern})" for pattern, _ in PHRASES), re.IGNORECASE)
STOPWORDS = frozenset(
    re.findall(
        r"\S+",
        """a about above after again all also am an and any are as at be because been before being
        below between both but by can could did do does doing done down during each else
        few for from further get gets getting give given gives go goes going got had has
        have having he her here him his how however i if in into is it its itself just
        let like made make makes making many may me might more most much must my no nor
        not now of off on once one only or other our out over own per please put really
        right said same say says see seen shall she should so some such take taken takes
        than that the their them then there these they thing things this those through
        to too under until up upon us use used uses using very want was way we well were
        what when where whether which while who whom whose why will with within without
        would yes yet you your actually exactly happen happens happened tell tells mean
        means meaning kind sort called call calls need needs needed work works working
        question answer explain example here's what's bundled project fromnoise
        r u ur im ive id wat wht whats hows wheres whys thats dont doesnt didnt cant isnt arent wont
        plz pls please thx thanks hi hello hey ok okay btw wanna gonna gotta gimme lemme lol idk
        anyone somebody someone anybody maybe bit lot really sometimes always never ever else
        ones away became become becomes
        like want wanted wants try trying tried new total totally guys folks friend sent send""",
    )
)
# Words that say little of what is asked about.
WEAK = frozenset(
    re.findall(
        r"\S+",
        """difference different define defined large small big good bad part parts cause caused
        handle lost much first second two three back bring exist exists possible help
        helps purpose reason change start know find show explain look user must enough
        run available long relate related relation produce contain contains avoid
        improve choose pick prefer recommend suggest want try apply perform achieve
        obtain reach turn turned become consist include represent refer involve affect
        influence depend play role sufficient strong important main typical usual exact
        real whole general easy hard simple wrong tip tips advice type form idea concept
        place amount number maximum minimum result case keep kept list lists myself
        another describe compare compared between side full per often actual able create
        creates turn put set best better""",
    )
)
# Words that mean one thing here. The first of a row stands for all of them.
SYNONYMS = {
    word: row[0]
    for row in (
        line.split()
        for line in """picture image photo photograph img pic images pictures photos
        vae autoencoder autoencod autoencoders
        guidance cfg
        upscale upscaler upscaling enlarge enlarges enlarged enlarging magnify larger bigger
        blurry blurred blur blurs fuzzy unsharp cloud cloudy smooth fog foggy hazy smudged smeared
        draw draws drawn drawing generate generates generation generated paint paints painted render
        copy copies copied copying
        merge merges merged combine combines combined blend blends blended
        animate animates animated animation
        seed seeds
        dataset datasets corpus
        inpaint inpaints inpainted
        reproduce reproduces reproduced replay replays regenerate
        saturate saturated saturation oversaturated glaring burnt
        caption captions
        video videos movie movies film films mp4 gif
        audio sound sounds music
        weight weights parameter parameters
        speed fast faster slow slower quick quickly
        duration minutes
        cost price cheap cheaper expensive costs
        vocabulary vocab
        store stored stores hidden hides hide memorize memorized memorised lookup
        filter filters remove removes removed erase
        network networks model models
        resemble similar similarity alike
        sampler samplers solver solvers
        error errors mistake mistakes artefact artefacts artifact artifacts fault faults
        colour color colours colors
        variety diversity varied
        mixture mix mixes mixed mixing average averages averaging interpolate
        normalise normalize normalized normalised normalization normalisation
        token tokens
        unknown rare unseen
        seamless tiling tileable
        extend outpaint outpainting
        mask masks
        crash crashes
        generalize generalise generalises generalization generalisation generalizes
        converge converges settle settles
        plateau plateaus
        guilty blame culprit
        describe describes described interrogate recognise recognize
        judge judges
        folder directory""".splitlines()
    )
    for word in row
}
# What a question may also mean, at half weight.
RELATED = {
    row.split()[0]: row.split()[1:]
    for row in re.split(
        ";",
        """picture pixel; upscale hires larger; vae decoder encoder latent; clip tower; destroy
        forward noise; rebuild reverse; duration second minute; snr sigma; guidance scale; size
        width; large high; store learn; slow cost; order first second; bad worse; habit list;
        compare fair; axis over; score arrow; obey follow; train learn; ram memory; vram memory;
        card gpu; nvidia gpu cuda; gpu device cuda; laptop cpu machine; mac mps; apple mps; bug
        error; problem error; quantise int8; quantization int8; pause stop; resume stop
        interrupted; continue resume again; crash state resume; died crash resume; lost state;
        resolution size pixel; dimension size; emphasis weight; emphasise weight; strong weight;
        nan infinite; black nan; checkpoint state weights; scratch fresh nothing; accuracy right
        following; benchmark evaluate measured; interface page; gui page; api python; script
        python; snippet python; similar cosine; download hub; offline internet; huggingface hub;
        transition film; morph film; video film; table grid; sweep grid; remember memory;
        garbage bad""",
    )
}
WORD = re.compile(r"[^\W_]+")
ENDINGS = (("ization", 3), ("ation", 4), ("ment", 4), ("ing", 3), ("ed", 3), ("ly", 4))
ENDINGS += (("er", 4), ("est", 4))  # and how many letters must be left
SIGNS = re.compile(r"[A-Za-z][a-z]+|[A-Z]+(?![a-z])|\d+|[A-Za-zÀ-ÿ]+")


def _plain_name(match: re.Match) -> str:
    """What a phrase is rewritten to."""
    return f" {PHRASES[(match.lastindex or 1) - 1][1]} "


@lru_cache(100_000)
def cut(word: str) -> str:
    """A word without its ending: "scaling", "scaled" and "scales" → "scal"."""
    if re.search(r"is(e|ed|es|ing|ation)$", word) and len(word) > 7:  # British endings
        word = re.sub(r"is(e|ed|es|ing|ation)$", r"iz\1", word)
    for ending, instead in (
        ("ies", "y"),
        ("ied", "y"),
        ("sses", "ss"),
        ("xes", "x"),
        ("ches", "ch"),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            word = word.removesuffix(ending) + instead
            break
    else:
        if word.endswith("s") and len(word) > 3 and word[-2] not in "sui":
            word = word[:-1]
    for ending, least in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= least:
            word = word.removesuffix(ending)
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


# stem of a word → stem of the word that stands for it
ALIKE = {cut(word): cut(first) for word, first in SYNONYMS.items()}


@lru_cache(100_000)
def stem(word: str) -> str:
    """The stem of a word, or of the one that stands for it."""
    base = cut(SYNONYMS.get(word, word))
    return ALIKE.get(base, base)


RELATED_STEMS = {stem(word): tuple(map(stem, others)) for word, others in RELATED.items()}


def split_identifier(name: str) -> list[str]:
    """ "x0_from_eps", "NoiseSchedule", "hires-scale" → their words, in lower case."""
    return [part.lower() for part in SIGNS.findall(name)]


@lru_cache(10_000)
def terms_of(text: str) -> tuple[str, ...]:
    """The terms of a text in their order: stems, and identifiers both whole and in parts."""
    text = PHRASE.sub(_plain_name, text)
    found = []
    for name in re.findall(r"[^\W_][\w]*(?:-[\w]+)*", text):
        whole = name.lower().replace("-", "_")
        parts = split_identifier(name) if re.search(r"[A-Z_0-9-]", name[1:]) else [whole]
        if len(parts) > 1:
            found.append(whole.replace("_", ""))
        found += [stem(part) for part in parts if part not in STOPWORDS]
    return tuple(found)


def units_of(text: str) -> list[tuple[str, ...]]:
    """What a question asks about, thing by thing: each is a name in full, then its parts."""
    text = PHRASE.sub(_plain_name, text)
    found = [terms_of(name) for name in re.findall(r"[^\W_][\w]*(?:-[\w]+)*", text)]
    return [unit for unit in dict.fromkeys(found) if unit]


def unique_terms(text: str) -> list[str]:
    """The terms of a question, each once."""
    return list(dict.fromkeys(terms_of(text)))


def pairs_of(text: str) -> set[str]:
    """Neighbours of a text, without the words that say little between them, in either order."""
    pairs = set()
    for part in re.split(r"[,.;:?!]", text):
        terms = terms_of(part)
        pairs |= {" ".join(sorted(two)) for two in pairwise(terms) if two[0] != two[1]}
    return pairs


def frame_of(text: str) -> list[str]:
    """All words of a question, small ones too, and their neighbours: its wording."""
    text = PHRASE.sub(_plain_name, text.lower())
    words = [stem(word) if word not in STOPWORDS else "~" + word for word in WORD.findall(text)]
    return [*words, *(f"{a} {b}" for a, b in pairwise(words))]
