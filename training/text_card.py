"""CARD.md of a text bundle: what the model was made from, how, how well it does, and where not to use it."""

from recipe import Recipe
from text_answers import SENTENCE_WEIGHT
from text_data import TextData
from text_evaluate import EMBEDDED

CARD = """\
# {name}

Reads {title} of at most {max_tokens} wordpieces: their sentiment (positive or negative), the entities in them ({kinds}),
an embedding of {hidden} numbers, and answers to questions about a passage, or that the passage does not answer.

## Model
SqueezeBERT layout (Iandola et al. 2020): {layers} layers, {hidden} channels, {heads} heads, {feed_forward:,} feed-forward
units, {groups} groups, {pieces:,} uncased wordpieces, and a token type for how the word was written (lower case,
Capitalised, UPPER, mIxed), in a passage or not. Activations 8 bits per token, weights 7 bits per output channel,
embedding table 8 bits per row. Sentiment is read from the mean over all tokens, entities from the first wordpiece of each
word (BIO tags, Viterbi over legal sequences), answers as start and end; the embedding is the mean itself, at length one.

## Data
| data | used for | licence |
| --- | --- | --- |
| all-MiniLM-L6-v2 (sentence-transformers) | teacher of embeddings and hidden states; start of the student | Apache-2.0 |
| sentence polarity v1.0 (Pang and Lee 2005) | sentiment, {sentiment:,} lines | CC BY 4.0 |
| pros and cons of products (Ganapathibhotla and Liu 2008) | sentiment, {reviews:,} lines | CC BY 4.0 |
| WNUT17 (Derczynski, Nichols, van Erp, Limsopatham 2017, leondz/emerging_entities_17) | entities, {entities:,} lines | CC BY 4.0 |
| XQuAD English (Artetxe et al. 2020), train paragraphs | {questions:,} questions; made-up ones on the same paragraphs | CC BY-SA 4.0 |
| SLURP lm, CLINC wiki, NLU++ and review corpora, plain sentences | distillation | CC BY 3.0 and 4.0 |
| Schema-Guided Dialogue (Rastogi et al. 2020), user turns | distillation | CC BY-SA 4.0 |
| HWU64, SLURP, CLINC150, SNIPS: text of the train lines | distillation, without labels | CC BY 4.0, CC BY 3.0, CC0 1.0 |

No line of a validation split (compared in lower case, letters and digits only) was trained on. The weights are published
under Apache-2.0; the attributions above belong to them.

## Recipe
The wordpieces are those of {start}. The layers were fitted to those of all-MiniLM-L6-v2 in closed form, one after the
other, each on what the student's own layers below make of the text. Then all tasks at once: the labels;{tuned} the
embeddings and hidden states of all-MiniLM-L6-v2; made-up cloze questions beside the written ones, and questions with the
passage of another. The last tenth runs in the int8 arithmetic.

## Quality
All on validation splits, where thresholds and the decoding of entities were chosen too: not test figures.

| task, measure | aim | baseline | f32 | int8 | published |
| --- | --- | --- | --- | --- | --- |
| sentiment, accuracy (n = {n_sentiment:,}) | 82 %, better 85 % | {majority} majority, {keywords} keywords | {sentiment_f32} | {sentiment_int8} | 81.5 % CNN (Kim 2014), 10-fold |
| entities, exact span and type, F1 (n = {n_entities:,}) | 40, better 45 | {gazetteer} gazetteer | {entities_f32} | {entities_int8} | 41.9 best of the shared task (2017), on test |
| answers, F1 of the best span (n = {n_questions}) | above baseline | {sentence_f1} best sentence by embedding | {qa_f32} | {qa_int8} | 83.5 BERT with all of SQuAD's 87,599 questions |
| answers, exact match | | {sentence_exact} | {exact_f32} | {exact_int8} | |
| answers, answerable or not, accuracy | | {sentence_answerable} | {answerable_f32} | {answerable_int8} | |
| embedding, cosine to the teacher's | 0.9 | | | {cosine} | |
| linear probe, CLINC150, accuracy | 95 % of the teacher | | | {clinc} | |
| linear probe, HWU64, accuracy | 95 % of the teacher | | | {hwu} | |

- Entities at int8: precision {precision}, recall {recall}. With the decoding chosen on one half of valid and measured on the other: F1
  {halves}; with no transitions and no bias {plain}.
- Sentiment: expected calibration error {ece} with the temperature fitted on the other half.
- Cosine by set: {cosines}.
- Probes: logistic regression on ten lines an intent, measured on {embedded} lines of valid; the encoder saw the text of those
  train lines, never an intent.
- Answers: the score of words in a sentence has {weight:g} times the cosine of the embeddings of question and sentence added, a weight chosen
  on valid. "Answerable or not" is balanced: every question with its own passage and with another one. With the bundle's
  threshold the mean F1 over both kinds is {with_threshold} (an unanswered question without answer counts 1).

## Not good for
- Languages other than English, and texts beyond {max_tokens} wordpieces (passages are read in windows).
- Neutral or mixed opinions: it knows positive and negative only, from sentences about films and products.
- Entities that decide anything: it misses more than half of what the labels name, as rare names in tweets are.
- Questions whose answer matters: it learnt from {questions} of them. Its spans point at a place in the passage to read.
- Embeddings where those of all-MiniLM-L6-v2 are stored already: near, not the same; do not mix the two in one index.
"""


TUNED = " the softened mean\nanswers of copies of all-MiniLM-L6-v2, fine-tuned on sentiment and entities with two seeds;"


def render_text_card(figures: dict, recipe: Recipe, pieces: int, data: TextData) -> str:
    """Fills the card with measured figures."""
    f32, int8, embedding, shape = figures["f32"], figures["int8"], figures["embedding"], recipe.shape
    sentence = figures["baselines"]["best_sentence"]
    labels = [label for _, label in data.sentiment_valid]
    majority = max(labels.count(label) for label in set(labels)) / len(labels)
    kinds = sorted({s.name for e in data.entities_train for s in e.slots})
    cosines = [f"{key.removeprefix('cosine_')} {value:.3f}" for key, value in embedding.items() if key.startswith("cosine_")]
    return CARD.format(
        name=recipe.name,
        title=recipe.title,
        start=recipe.start,
        tuned=TUNED if recipe.tuned_teacher else "",
        weight=SENTENCE_WEIGHT,
        embedded=EMBEDDED,
        kinds=", ".join(kinds),
        max_tokens=shape.max_tokens,
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        feed_forward=shape.feed_forward,
        groups=shape.groups,
        pieces=pieces,
        sentiment=len(data.sentiment_train),
        reviews=len(data.reviews_train),
        entities=len(data.entities_labelled),
        questions=len(data.questions_train),
        n_sentiment=len(labels),
        n_entities=len(data.entities_valid),
        n_questions=len(data.questions_valid),
        majority=f"{majority:.1%}",
        keywords=f"{figures['baselines']['keywords']:.1%}",
        gazetteer=_f1(figures["baselines"]["gazetteer"]),
        sentiment_f32=f"{f32['sentiment_accuracy']:.1%}",
        sentiment_int8=f"{int8['sentiment_accuracy']:.1%}",
        entities_f32=_f1(f32["entities"]["f1"]),
        entities_int8=_f1(int8["entities"]["f1"]),
        precision=f"{int8['entities']['precision']:.1%}",
        recall=f"{int8['entities']['recall']:.1%}",
        halves=_f1(figures["entities_halves_f1"]),
        plain=_f1(int8["entities_plain_f1"]),
        ece=f"{figures['sentiment_calibration_error']:.1%}",
        sentence_f1=_f1(sentence["f1"]),
        sentence_exact=_f1(sentence["exact_match"]),
        sentence_answerable=f"{sentence['answerable_accuracy']:.1%}",
        qa_f32=_f1(f32["qa"]["f1"]),
        qa_int8=_f1(int8["qa"]["f1"]),
        exact_f32=_f1(f32["qa"]["exact_match"]),
        exact_int8=_f1(int8["qa"]["exact_match"]),
        answerable_f32=f"{f32['qa']['answerable_accuracy']:.1%}",
        answerable_int8=f"{int8['qa']['answerable_accuracy']:.1%}",
        with_threshold=_f1(int8["qa"]["f1_with_threshold"]),
        cosine=f"{embedding['cosine']:.3f}",
        clinc=_of_teacher(embedding, "clinc150"),
        hwu=_of_teacher(embedding, "hwu64"),
        cosines=", ".join(cosines),
    )


def _f1(value: float) -> str:
    return f"{100 * value:.1f}"


def _of_teacher(embedding: dict, name: str) -> str:
    ours, teacher = embedding[f"probe_{name}_ours"], embedding[f"probe_{name}_teacher"]
    return f"{ours:.1%}, {ours / teacher:.1%} of the teacher's {teacher:.1%}"
