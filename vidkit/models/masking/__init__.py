"""Which tokens an encoder sees and which a decoder predicts: how many, and which. The contract: `Masker`."""

from vidkit.models.masking.contract import NO_SIDE as NO_SIDE
from vidkit.models.masking.contract import Mask as Mask
from vidkit.models.masking.contract import Masker as Masker
from vidkit.models.masking.contract import Side as Side
from vidkit.models.masking.count import num_targets as num_targets
from vidkit.models.masking.count import num_visible as num_visible
from vidkit.models.masking.draw import gumbel_order as gumbel_order
from vidkit.models.masking.draw import gumbel_top_k as gumbel_top_k
from vidkit.models.masking.draw import mask_generator as mask_generator
from vidkit.models.masking.draw import mask_seed as mask_seed
from vidkit.models.masking.draw import masked_indices as masked_indices
from vidkit.models.masking.draw import random_subset as random_subset
from vidkit.models.masking.draw import visible_mask as visible_mask
from vidkit.models.masking.fixed import adaptive as adaptive
from vidkit.models.masking.strategies import FIXED as FIXED
from vidkit.models.masking.strategies import STRATEGIES as STRATEGIES
from vidkit.models.masking.strategies import make_masker as make_masker
from vidkit.models.masking.targets import choose_targets as choose_targets
