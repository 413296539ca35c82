"""The trainers whose keys we know. To add one, write a module with `VOCABULARIES` and list it here."""

from regard.runlog.importers.vocabularies import openrlhf, others, trl_group, trl_offline, trl_ppo, verl
from regard.runlog.importers.vocabulary import Vocabulary

VOCABULARIES: dict[str, Vocabulary] = {
    vocabulary.name: vocabulary
    for module in (trl_ppo, trl_group, trl_offline, verl, openrlhf, others)
    for vocabulary in module.VOCABULARIES
}
"""By name; where several fit a log, the first one here counts."""
