//! `calibration.json`: how scores become probabilities and probabilities outcomes.

use intentd_core::Task;
use serde::Deserialize;

use super::manifest::{Manifest, task_name};
use super::verify::{Verified, read_json};
use crate::OpenError;

/// What each head's scores mean; those of the bundle's tasks are there.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Calibration {
    pub(crate) intent: Option<IntentCalibration>,
    pub(crate) slots: Option<TagsCalibration>,
    pub(crate) sentiment: Option<SentimentCalibration>,
    pub(crate) entities: Option<TagsCalibration>,
    pub(crate) qa: Option<AnswerCalibration>,
}

/// Temperature and thresholds of the intent head.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct IntentCalibration {
    pub(crate) temperature: f32,
    /// From here on: RECOGNIZED.
    pub(crate) recognized: f32,
    /// Below: NOT_RECOGNIZED.
    pub(crate) not_recognized: f32,
}

/// A head that tags words.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct TagsCalibration {
    pub(crate) temperature: f32,
    /// Added to the score of the tag outside any span: below 0 more spans are found, above fewer.
    #[serde(default)]
    pub(crate) outside_bias: f32,
}

/// The sentiment head.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct SentimentCalibration {
    pub(crate) temperature: f32,
}

/// The head of start and end.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct AnswerCalibration {
    pub(crate) temperature: f32,
    /// By how much the best words must beat "no answer" to be as likely right as wrong.
    pub(crate) threshold: f32,
    /// How much the likeness of a sentence to the question counts, a cosine, beside the scores of its words; 0: not at all.
    #[serde(default)]
    pub(crate) sentence_weight: f32,
}

/// A site's own thresholds; none: the bundle's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Confidence from which an intent is RECOGNIZED.
    pub recognized: Option<f32>,
    /// Confidence below which an utterance is NOT_RECOGNIZED.
    pub not_recognized: Option<f32>,
}

impl Calibration {
    pub(crate) fn read(bundle: &mut Verified) -> Result<Self, OpenError> {
        const FILE: &str = "calibration.json";
        let calibration: Self = read_json(bundle, FILE)?;
        calibration
            .check(&bundle.manifest)
            .map_err(|message| OpenError::Content { path: bundle.path(FILE), message })?;
        Ok(calibration)
    }

    fn check(&self, manifest: &Manifest) -> Result<(), String> {
        let temperatures = [
            (Task::Intent, self.intent.map(|intent| intent.temperature)),
            (Task::Slots, self.slots.map(|slots| slots.temperature)),
            (Task::Sentiment, self.sentiment.map(|sentiment| sentiment.temperature)),
            (Task::Entities, self.entities.map(|entities| entities.temperature)),
            (Task::Answers, self.qa.map(|qa| qa.temperature)),
        ];
        for (task, temperature) in temperatures {
            let name = task_name(task);
            match temperature {
                Some(value) if !(value.is_finite() && value > 0.0) => {
                    return Err(format!("{name}.temperature is {value}; it must be positive"));
                }
                None if manifest.has(task) => return Err(format!("lacks {name}, a task of the bundle")),
                _ => {}
            }
        }
        let biases = [self.slots, self.entities].into_iter().flatten().map(|tags| tags.outside_bias);
        if biases.chain(self.qa.map(|qa| qa.threshold)).any(|value| !value.is_finite()) {
            return Err("outside_bias and qa.threshold must be numbers".to_owned());
        }
        if let Some(weight) =
            self.qa.map(|qa| qa.sentence_weight).filter(|weight| !(0.0..=1e3).contains(weight))
        {
            return Err(format!("qa.sentence_weight is {weight}; it must be from 0 to 1000"));
        }
        self.intent.map_or(Ok(()), |intent| intent.check_thresholds())
    }
}

impl IntentCalibration {
    /// Lays a site's thresholds over the bundle's.
    pub(crate) fn with(self, site: Thresholds) -> Result<Self, String> {
        let overridden = Self {
            recognized: site.recognized.unwrap_or(self.recognized),
            not_recognized: site.not_recognized.unwrap_or(self.not_recognized),
            ..self
        };
        overridden.check_thresholds().map(|()| overridden)
    }

    fn check_thresholds(&self) -> Result<(), String> {
        let Self { recognized, not_recognized, .. } = *self;
        if !(0.0 <= not_recognized && not_recognized <= recognized && recognized <= 1.0) {
            return Err(format!(
                "thresholds must be 0 <= not_recognized <= recognized <= 1, but are {not_recognized} and {recognized}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sites_thresholds_replace_those_it_names() {
        let bundle = IntentCalibration { temperature: 1.5, recognized: 0.8, not_recognized: 0.4 };
        let site = |recognized, not_recognized| bundle.with(Thresholds { recognized, not_recognized });
        let thresholds =
            |calibration: IntentCalibration| (calibration.recognized, calibration.not_recognized);
        assert_eq!(site(None, None).map(thresholds), Ok((0.8, 0.4)));
        assert_eq!(site(Some(0.9), None).map(thresholds), Ok((0.9, 0.4)));
        assert_eq!(site(None, Some(0.1)).map(thresholds), Ok((0.8, 0.1)));
        assert!(site(Some(0.3), None).is_err(), "below the bundle's not_recognized");
    }

    #[test]
    fn every_task_has_numbers_that_make_sense() {
        let manifest = |tasks: &str| {
            let text = format!(
                "schema = 1\nname = \"n\"\nversion = \"1.0.0\"\nlanguages = [\"en\"]\nlicence = \"MIT\"\n\
                 tasks = [{tasks}]\nminimum_intentd = \"0.1.0\"\nsize_class = \"small\"\nmax_tokens = 64\nfiles = []\n"
            );
            Manifest::read("manifest.toml".as_ref(), &text).unwrap()
        };
        let check = |json: &str, tasks: &str| {
            serde_json::from_str::<Calibration>(json).unwrap().check(&manifest(tasks))
        };
        let intent = r#""intent": {"temperature": 1.5, "recognized": 0.8, "not_recognized": 0.4}"#;
        assert_eq!(check(&format!("{{{intent}}}"), "\"intent\", \"embedding\""), Ok(()));
        let qa = r#"{"qa": {"temperature": 1.0, "threshold": 0.5}, "entities": {"temperature": 1, "outside_bias": -1}}"#;
        assert_eq!(check(qa, "\"qa\", \"entities\""), Ok(()));
        let cases: [(&str, &str, &str); 5] = [
            ("{}", "\"intent\"", "lacks intent"),
            (qa, "\"qa\", \"sentiment\"", "lacks sentiment"),
            (&format!("{{{}}}", intent.replace("0.4", "0.9")), "\"intent\"", "thresholds"),
            (&format!("{{{}}}", intent.replace("1.5", "0")), "\"intent\"", "intent.temperature"),
            (&qa.replace("0.5", "1e39"), "\"qa\", \"entities\"", "threshold"),
        ];
        for (json, tasks, expected) in cases {
            let error = check(json, tasks).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
