//! Which bundles serve: the configured ones, each by its name, or where one is refused the one that the operator named to
//! stand in for it.
//!
//! Never one that nobody named: another bundle has other intents, and devices act on them.

use std::path::Path;
use std::sync::Arc;

use intentd_core::{Invalid, InvalidKind, ParseError};
use intentd_engine::{Engine, Names, OpenError, Thresholds};

use crate::StartError;
use crate::config::{Bundle, Mistake, Model, Route};

/// The bundles that serve side by side. The first is the daemon's own, which is meant where none is named.
#[derive(Clone)]
pub struct Models(Vec<Arc<Engine>>);

/// Bundles that passed.
pub struct Opened {
    /// What answers.
    pub models: Models,
    /// Why fallbacks answer; none when every configured bundle does.
    pub fallback: Option<String>,
}

impl Models {
    /// The daemon's own bundle.
    pub fn own(&self) -> &Engine {
        &self.0[0]
    }

    /// All of them; their places are those that [`Models::place`] finds.
    pub fn all(&self) -> &[Arc<Engine>] {
        &self.0
    }

    /// Finds a bundle by the name that `field` of a request has; empty: the daemon's own.
    ///
    /// # Errors
    /// That none of this name is loaded, and which are.
    pub fn place(&self, field: &'static str, name: &str) -> Result<usize, Invalid> {
        if name.is_empty() {
            return Ok(0);
        }
        let found = self.0.iter().position(|engine| engine.model().name == name);
        found.ok_or_else(|| Invalid {
            field,
            kind: InvalidKind::BadValue,
            message: format!("no bundle {name:?} is loaded; there are {}", self.names().join(", ")),
        })
    }

    /// Tells who lacks a task which of the others has what.
    pub fn direct(&self, error: ParseError) -> ParseError {
        match error {
            ParseError::TaskMissing(message) if self.0.len() > 1 => {
                let each = self.0.iter().map(|engine| {
                    format!("{} ({})", engine.model().name, engine.manifest().tasks.join(", "))
                });
                let each: Vec<String> = each.collect();
                ParseError::TaskMissing(format!(
                    "{message}; the bundles that can be named are {}",
                    each.join(", ")
                ))
            }
            error => error,
        }
    }

    /// That every route's bundle is there and has the route's tasks: its utterances would wait for ever.
    pub fn check_routes(&self, routes: &[Route]) -> Result<(), Mistake> {
        for (i, route) in routes.iter().enumerate() {
            let key = |name: &str| format!("mqtt.routes[{i}].{name}");
            let place = self.place("bundle", &route.bundle);
            let place = place.map_err(|invalid| Mistake::new(&key("bundle"), invalid.message))?;
            let has = self.0[place].check_tasks(&route.tasks);
            has.map_err(|error| Mistake::new(&key("tasks"), self.direct(error).to_string()))?;
        }
        Ok(())
    }

    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|engine| engine.model().name.as_str()).collect()
    }
}

/// Opens every configured bundle, else its fallback. The error is the configured one's, with the fallback's behind it.
pub fn open(model: &Model) -> Result<Opened, StartError> {
    let mut opened = Opened { models: Models(Vec::new()), fallback: None };
    // The site's thresholds were set for its own bundle.
    let own = [("model".to_owned(), &model.own, model.thresholds)];
    let more = model.more.iter().enumerate();
    let more = more.map(|(i, bundle)| (format!("model.more[{i}]"), bundle, Thresholds::default()));
    for (key, bundle, thresholds) in own.into_iter().chain(more) {
        let names = read_names(&key, bundle)?;
        let (engine, fallback) = open_one(&key, bundle, model, thresholds)?;
        let engine = give_names(&key, engine, names)?;
        let name = &engine.model().name;
        if opened.models.names().contains(&name.as_str()) {
            let message = format!("its name is {name}, as of one before; requests could not tell them apart");
            return Err(Mistake::new(&format!("{key}.bundle"), message).into());
        }
        opened.models.0.push(Arc::new(engine));
        opened.fallback = match (opened.fallback, fallback) {
            (Some(before), Some(why)) => Some(format!("{before}; {why}")),
            (before, why) => before.or(why),
        };
    }
    Ok(opened)
}

/// The names that slots of this bundle resolve to; none where no file is set.
///
/// # Errors
/// That the file cannot be read, or what is wrong in it.
pub fn read_names(key: &str, bundle: &Bundle) -> Result<Names, Mistake> {
    let Some(path) = &bundle.names else { return Ok(Names::default()) };
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|text| Names::parse(&text))
        .map_err(|message| Mistake::new(&format!("{key}.names"), format!("{}: {message}", path.display())))
}

/// Has the bundle's slots resolve to these names.
///
/// # Errors
/// That the bundle lacks one of the slots.
pub fn give_names(key: &str, engine: Engine, names: Names) -> Result<Engine, Mistake> {
    engine.with_names(names).map_err(|message| Mistake::new(&format!("{key}.names"), message))
}

fn open_one(
    key: &str,
    bundle: &Bundle,
    model: &Model,
    thresholds: Thresholds,
) -> Result<(Engine, Option<String>), StartError> {
    let Bundle { folder: bundle, fallback, .. } = bundle;
    let refused = match try_open(bundle, model, thresholds) {
        Ok(engine) => return Ok((engine, None)),
        Err(refused) => refused,
    };
    let failed = |source, fallback| StartError::Bundle {
        path: bundle.display().to_string(),
        source: Box::new(source),
        fallback,
    };
    // A contradiction in the settings is no damage: it would come back with any bundle, and a person must know.
    let Some(folder) = fallback.as_ref().filter(|_| !matches!(refused, OpenError::Thresholds(_))) else {
        return Err(failed(refused, String::new()));
    };
    match try_open(folder, model, thresholds) {
        Ok(engine) => {
            tracing::error!(
                bundle = %bundle.display(),
                error = %refused,
                fallback = %folder.display(),
                "{key}.bundle is refused; {key}.fallback serves in its place until intentd is started with a good one"
            );
            let why = format!("{key}.fallback serves, {} is refused: {refused}", bundle.display());
            Ok((engine, Some(why)))
        }
        Err(error) => {
            let fallback = format!("; nor in {key}.fallback, {}: {error}", folder.display());
            Err(failed(refused, fallback))
        }
    }
}

fn try_open(folder: &Path, model: &Model, thresholds: Thresholds) -> Result<Engine, OpenError> {
    let engine = Engine::open(folder, &model.trust, thresholds)?;
    let times = engine.startup();
    tracing::info!(
        bundle = %engine.model().name,
        version = %engine.model().version,
        kernel = engine.kernel(),
        verify_ms = times.verify.as_millis() as u64,
        load_ms = times.load.as_millis() as u64,
        self_test_ms = times.self_test.as_millis() as u64,
        "bundle is ready"
    );
    Ok(engine)
}
