"""CARD.md: what the model was made from, how, how well it does, and where not to use it."""

CARD = """\
# home-en

Understands short English requests to a home assistant: {intents} intents (with `oos`, out of scope) and {slots} slot
names, those of HWU64. It reads lower-cased text of at most 128 wordpieces.

## Model
SqueezeBERT layout (Iandola et al. 2020): 6 layers, 384 channels, 12 heads, 1,536 feed-forward units, 4 groups,
{pieces:,} uncased wordpieces. Activations 8 bits per token, weights 7 bits per output channel, embedding table 8 bits
per row. Intent head on the mean over all tokens; slot head on the first wordpiece of each word, BIO tags, Viterbi over
legal sequences.

## Data
| data | used for | licence |
| --- | --- | --- |
| all-MiniLM-L6-v2 (sentence-transformers) | teacher, embeddings, starting point | Apache-2.0 |
| HWU64 (Liu, Eshghi, Swietojanski, Rieser 2019, xliuhw/NLU-Evaluation-Data), train of fold 1 | intents, slots | CC BY 4.0 |
| SLURP (Bastianelli, Vanzo, Swietojanski, Rieser 2020), text of `devel` | intents, slots | CC BY 4.0 |
| CLINC150 (Larson et al. 2019): `oos_train`, and intents far from HWU64's (banking, cards, employment, cars, visas) | out of scope; distillation | CC BY 3.0 |
| SNIPS (Coucke et al. 2018), train | distillation (text only) | CC0 1.0 |
| SLURP lm, CLINC wiki, NLU++ and review corpora, plain sentences | wordpiece counts; distillation | CC BY 3.0 and 4.0 |
| Schema-Guided Dialogue (Rastogi et al. 2020), user turns | wordpiece counts; distillation | CC BY-SA 4.0 |

{train:,} labelled lines in fine-tuning. No line of the validation splits (compared in lower case, letters and digits
only) was trained on, and the sets hold none of their test splits. The weights are published under Apache-2.0; the
attributions above belong to them.

## Recipe
Each grouped layer starts as the ridge regression of the teacher's dense layer; then distillation of the hidden states
of all layers; then joint fine-tuning with swapped slot values, the last epoch with the int8 arithmetic.

## Quality
HWU64 validation split of fold 1, n = {n} (tuned on; not a test figure). Intent: arg max over in-scope labels. Slots:
same name, start and end, micro average.

| | intent accuracy | slot F1 (precision, recall) | whole frame |
| --- | --- | --- | --- |
| f32 | {f32} |
| int8 | {int8} |

Confidence is the softmax over all intents at temperature {temperature}, fitted on that split and on {oos_n}
out-of-scope lines of CLINC150's `oos_val`. `recognized` = {recognized} is the smallest confidence above which at least
97 % of the answers are right; `not_recognized` = {not_recognized} is the confidence that 3 % of the in-scope lines do
not reach.

| int8 | RECOGNIZED | UNCERTAIN | NOT_RECOGNIZED |
| --- | --- | --- | --- |
| in scope (n = {n}) | {inside} |
| out of scope (n = {oos_n}) | {outside} |

## Not good for
- Languages other than English, long texts, several requests in one sentence.
- Slot values unlike those of crowd-sourced requests: rare names, codes, spelled-out addresses. HWU64's slot labels are
  noisy (18 % of the occurrences of its common values are unlabelled), which bounds slot F1.
- Telling every request it cannot serve from those it can: see the out-of-scope row before acting on RECOGNIZED where a
  mistake is costly.
- Safety: locks, alarms against intruders, medical or financial decisions.
"""


def render_card(figures: dict, intents: int, slots: int, train: int, pieces: int) -> str:
    """Fills the card with measured figures."""
    intent = figures["calibration"]["intent"]
    return CARD.format(
        intents=intents,
        slots=slots,
        pieces=pieces,
        train=train,
        n=figures["valid_int8"]["examples"],
        f32=_quality(figures["valid_f32"]),
        int8=_quality(figures["valid_int8"]),
        temperature=intent["temperature"],
        recognized=intent["recognized"],
        not_recognized=intent["not_recognized"],
        oos_n=figures["out_of_scope_examples"],
        inside=_shares(figures["valid_outcomes"]),
        outside=_shares(figures["out_of_scope_outcomes"]),
    )


def _quality(q: dict) -> str:
    slots = f"{q['slot_f1']:.1%} ({q['slot_precision']:.1%}, {q['slot_recall']:.1%})"
    return f"{q['intent_accuracy']:.1%} | {slots} | {q['frame_accuracy']:.1%}"


def _shares(shares: dict[str, float]) -> str:
    return " | ".join(f"{share:.1%}" for share in shares.values())
