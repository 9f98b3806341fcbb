"""CARD.md: what the model was made from, how, how well it does, and where not to use it."""

import home_assistant_card
from recipe import Recipe
from tasks import Task

CARD = """\
# {name}

Understands {title}: {intents} intents{slots} of {labels_of}. It reads lower-cased text of at most {max_tokens}
wordpieces.

## Model
SqueezeBERT layout (Iandola et al. 2020): {layers} layers, {hidden} channels, {heads} heads, {feed_forward}
feed-forward units, {groups} groups, {pieces:,} uncased wordpieces. Activations 8 bits per token, weights 7 bits per
output channel, embedding table 8 bits per row. Intent head on the mean over all tokens{slot_head}.

{origin}
## Quality
{lines_of}, n = {n} (tuned and calibrated on; not a test figure). Intent: arg max over in-scope labels. Slots: same name,
start and end, micro average. In brackets the 95 % interval.

| | intent accuracy | slot F1 (precision, recall) | whole frame |
| --- | --- | --- | --- |
| f32 | {f32} |
| int8 | {int8} |

95 % interval at int8: intent {intent_interval}{slot_interval}.

Confidence is the softmax over all intents and out of scope at temperature {temperature}. Expected calibration error (15
bins): {ece} with the temperature fitted on the same lines; {ece_halves} on each half with the temperature of the other.
From `recognized` = {recognized} on at least 97 % of the answers are right; `not_recognized` = {not_recognized} costs at most
3 % of the in-scope lines.

| int8 | RECOGNIZED | UNCERTAIN | NOT_RECOGNIZED |
| --- | --- | --- | --- |
| in scope (n = {n}) | {inside} |
{outside}
{false_accept}{more}## Not good for
- Languages other than English, long texts, several requests in one sentence.
{weak_slots}- Telling every request it cannot serve from those it can: look at the out-of-scope row before acting on RECOGNIZED where
  a mistake is costly.
- Safety: locks, alarms against intruders, medical or financial decisions.
"""

ORIGIN = """\
## Data
| data | used for | licence |
| --- | --- | --- |
| all-MiniLM-L6-v2 (sentence-transformers) | teacher, embeddings, starting point | Apache-2.0 |
| HWU64 (Liu, Eshghi, Swietojanski, Rieser 2019, xliuhw/NLU-Evaluation-Data), train of fold 1 | labels | CC BY 4.0 |
| SLURP (Bastianelli, Vanzo, Swietojanski, Rieser 2020), text of `devel` | labels | CC BY 4.0 |
| CLINC150 (Larson et al. 2019), train and `oos_train` | labels, out of scope | CC BY 3.0 |
| SNIPS (Coucke et al. 2018), train | labels, out of scope | CC0 1.0 |
| XQuAD English (Artetxe et al. 2020), questions of the train paragraphs | out of scope of CLINC150 | CC BY-SA 4.0 |
| SLURP lm, CLINC wiki, NLU++ and review corpora, plain sentences | wordpiece counts; distillation | CC BY 3.0 and 4.0 |
| Schema-Guided Dialogue (Rastogi et al. 2020), user turns | wordpiece counts; distillation | CC BY-SA 4.0 |

The encoder was trained on all of them, the heads of this bundle on {train:,} labelled lines. No line of the validation
splits (compared in lower case, letters and digits only) was trained on, and the sets hold none of their test splits.
The weights are published under Apache-2.0; the attributions above belong to them.

## Recipe
Each grouped layer starts as the ridge regression of the teacher's dense layer; distillation of the hidden states of all
layers; the dense teacher is fine-tuned on HWU64, SNIPS and CLINC150 at once; the student learns the same tasks from
labels, from that teacher's softened answers and hidden states, and from its answers on unlabelled requests; last the
bundle's own task, with swapped slot values, ending with the int8 arithmetic.
"""

WEAK_SLOTS = {
    "home": """\
- Slot values unlike those of crowd-sourced requests: rare names, codes, spelled-out addresses. HWU64's slot labels are
  noisy (18 % of the occurrences of its common values are unlabelled), which bounds slot F1.
""",
    "snips": "- Slot values unlike the titles, names and places of SNIPS.\n",
    "clinc150": "",
    "home-assistant": home_assistant_card.WEAK_SLOTS,
}


def render_card(figures: dict, recipe: Recipe, task: Task, pieces: int) -> str:
    """Fills the card with measured figures."""
    intent, has_slots, shape = figures["calibration"]["intent"], bool(task.slot_names), recipe.shape
    outside = figures.get("out_of_scope_outcomes")
    count = figures["out_of_scope_examples"]
    origin = home_assistant_card.ORIGIN if task.name == "home-assistant" else ORIGIN
    return CARD.format(
        name=recipe.name,
        title=recipe.title,
        labels_of=recipe.labels_of,
        lines_of=recipe.lines_of,
        intents=len(task.labels.intents) - 1,
        slots=f" and {len(task.slot_names)} slot names" if has_slots else "",
        slot_head="; slot head on the\nfirst wordpiece of each word, BIO tags, Viterbi over legal sequences with weighed transitions" if has_slots else "",
        max_tokens=shape.max_tokens,
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        feed_forward=f"{shape.feed_forward:,}",
        groups=shape.groups,
        pieces=pieces,
        origin=origin.format(train=len(task.train)),
        more=home_assistant_card.render(figures, task) if task.name == "home-assistant" else "",
        n=figures["valid_int8"]["examples"],
        f32=_quality(figures["valid_f32"], has_slots),
        int8=_quality(figures["valid_int8"], has_slots),
        intent_interval=_between(figures["intent_interval"]),
        slot_interval=f", slot F1 {_between(figures['slot_f1_interval'])}" if has_slots else "",
        temperature=intent["temperature"],
        ece=f"{figures['calibration_error']:.1%}",
        ece_halves=" and ".join(f"{error:.1%}" for error in figures["calibration_error_halves"]),
        recognized=intent["recognized"],
        not_recognized=intent["not_recognized"],
        inside=_shares(figures["valid_outcomes"]),
        outside=f"| out of scope (n = {count}) | {_shares(outside)} |\n" if outside else "",
        false_accept=_false_accept(figures, outside, count),
        weak_slots=WEAK_SLOTS[task.name],
    )


def _false_accept(figures: dict, outside: dict | None, count: int) -> str:
    if not outside:
        return ""
    return (
        f"False-accept rate: {outside['RECOGNIZED']:.1%} of {count} out-of-scope lines (CLINC150's `oos_val`) come out "
        f"RECOGNIZED.\nAUROC of out of scope against in scope {figures['out_of_scope_auroc']:.3f}; "
        f"{figures['out_of_scope_recall']:.1%} of out-of-scope lines fall below the\nconfidence that 5 % of the in-scope "
        "lines do not reach.\n\n"
    )


def _quality(q: dict, has_slots: bool) -> str:
    slots = f"{q['slot_f1']:.1%} ({q['slot_precision']:.1%}, {q['slot_recall']:.1%})" if has_slots else "none"
    return f"{q['intent_accuracy']:.1%} | {slots} | {q['frame_accuracy']:.1%}"


def _between(interval: list[float]) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}"


def _shares(shares: dict[str, float]) -> str:
    return " | ".join(f"{share:.1%}" for share in shares.values())
