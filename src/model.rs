//! Which bundle serves: the configured one, or where that is refused the one that the operator named to stand in.
//!
//! Never one that nobody named: another bundle has other intents, and devices act on them.

use std::path::Path;
use std::sync::Arc;

use intentd_engine::{Engine, OpenError};

use crate::StartError;
use crate::config::Model;

/// A bundle that passed.
pub struct Opened {
    /// What answers.
    pub engine: Arc<Engine>,
    /// Why it is the fallback that answers; none when it is the configured bundle.
    pub fallback: Option<String>,
}

/// Opens the configured bundle, else the fallback. The error is the configured one's, with the fallback's behind it.
pub fn open(model: &Model) -> Result<Opened, StartError> {
    let refused = match try_open(&model.bundle, model) {
        Ok(engine) => return Ok(Opened { engine, fallback: None }),
        Err(refused) => refused,
    };
    let failed = |source, fallback| StartError::Bundle {
        path: model.bundle.display().to_string(),
        source: Box::new(source),
        fallback,
    };
    // A contradiction in the settings is no damage: it would come back with any bundle, and a person must know.
    let Some(folder) = model.fallback.as_ref().filter(|_| !matches!(refused, OpenError::Thresholds(_)))
    else {
        return Err(failed(refused, String::new()));
    };
    match try_open(folder, model) {
        Ok(engine) => {
            tracing::error!(
                bundle = %model.bundle.display(),
                error = %refused,
                fallback = %folder.display(),
                "model.bundle is refused; model.fallback serves in its place until intentd is started with a good one"
            );
            let why = format!("model.fallback serves, {} is refused: {refused}", model.bundle.display());
            Ok(Opened { engine, fallback: Some(why) })
        }
        Err(error) => {
            let fallback = format!("; nor in model.fallback, {}: {error}", folder.display());
            Err(failed(refused, fallback))
        }
    }
}

fn try_open(folder: &Path, model: &Model) -> Result<Arc<Engine>, OpenError> {
    let engine = Engine::open(folder, &model.trust, model.thresholds)?;
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
    Ok(Arc::new(engine))
}
