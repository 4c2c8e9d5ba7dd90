"""Components that are right at toy sizes and default options, and wrong beyond them; one file per kind of fault."""

from testing.broken_at_size import (  # each module enters its components into the table
    attention_masks as attention_masks,
)
from testing.broken_at_size import attention_states as attention_states
from testing.broken_at_size import batchings as batchings
from testing.broken_at_size import corpora as corpora
from testing.broken_at_size import ffns as ffns
from testing.broken_at_size import norms as norms
from testing.broken_at_size import optimizers as optimizers
from testing.broken_at_size import positionals as positionals
from testing.broken_at_size import processors as processors
from testing.broken_at_size import recurrent as recurrent
from testing.broken_at_size import schedules as schedules
from testing.broken_at_size import strategies as strategies
from testing.broken_at_size import tokenizers as tokenizers
from testing.broken_at_size.table import TABLE as TABLE
from testing.broken_at_size.table import Entry as Entry
