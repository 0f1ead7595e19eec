"""How strictly types are checked while the tests run: an int may stand for a float, as in Python's own rules."""

from warnings import filterwarnings

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep585DeprecationWarning

filterwarnings("ignore", category=BeartypeDecorHintPep585DeprecationWarning)
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
