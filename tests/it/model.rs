use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use minisign::KeyPair;

use crate::harness::{Daemon, copy_of_bundle};

const OFF: &str = "[mqtt]\nbroker = \"off\"";

fn damage(bundle: &Path, file: &str) {
    let path = bundle.join(file);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn spawn(settings: &[(&str, &str)]) -> Daemon {
    let environment: Vec<_> =
        settings.iter().map(|(key, value)| (format!("INTENTD__MODEL__{key}"), *value)).collect();
    let environment: Vec<_> = environment.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    Daemon::spawn(OFF, &environment)
}

#[test]
fn the_fallback_serves_when_the_bundle_is_damaged_and_everything_tells_so() {
    let (bundle, fallback) = (copy_of_bundle(), copy_of_bundle());
    let folders =
        [("BUNDLE", bundle.path().to_str().unwrap()), ("FALLBACK", fallback.path().to_str().unwrap())];
    let sound = spawn(&folders);
    sound.wait_ready();
    assert_eq!(sound.get("/readyz"), Some((200, "ready\n".to_owned())));
    assert_eq!(sound.metric("intentd_model_fallback"), 0.0);
    drop(sound);

    damage(bundle.path(), "encoder.onnx");
    let mut daemon = spawn(&folders);
    daemon.wait_ready();
    let (_, page) = daemon.get("/readyz").unwrap();
    assert!(page.starts_with("ready; model.fallback serves") && page.contains("encoder.onnx"), "{page}");
    assert_eq!(daemon.metric("intentd_model_fallback"), 1.0);
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("\"ERROR\"")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("encoder.onnx") && line.contains(folders[1].1), "{line}");
    assert_eq!(daemon.terminate(), Some(0));

    damage(fallback.path(), "labels.json");
    let mut daemon = spawn(&folders);
    assert_eq!(daemon.exit().code(), Some(78));
    assert!(
        daemon.log().contains("encoder.onnx") && daemon.log().contains("labels.json"),
        "{}",
        daemon.log()
    );
}

/// The fallback must not hide a mistake in the settings.
#[test]
fn contradicting_thresholds_stop_the_start_whatever_the_fallback() {
    let bundle = copy_of_bundle();
    let folder = bundle.path().to_str().unwrap();
    let mut daemon = spawn(&[("BUNDLE", folder), ("FALLBACK", folder), ("RECOGNIZED", "0.0")]);
    assert_eq!(daemon.exit().code(), Some(78), "{}", daemon.log());
    assert!(daemon.log().contains("model.recognized"), "{}", daemon.log());
}

#[test]
fn with_trusted_keys_the_daemon_and_every_command_want_a_signature() {
    let keys = KeyPair::generate_unencrypted_keypair().unwrap();
    let key = keys.pk.to_base64();
    let bundle = copy_of_bundle();
    let folder = bundle.path().to_str().unwrap();
    let verify = || {
        let output = Command::new(env!("CARGO_BIN_EXE_intentd"))
            .args(["model", "verify", folder])
            .env("INTENTD__MODEL__TRUSTED_KEYS", &key)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let mut daemon = spawn(&[("BUNDLE", folder), ("TRUSTED_KEYS", &key)]);
    assert_eq!(daemon.exit().code(), Some(78));
    assert!(daemon.log().contains("manifest.toml.minisig"), "{}", daemon.log());
    let (code, message) = verify();
    assert!(code == Some(78) && message.contains("manifest.toml.minisig"), "{code:?} {message}");

    let manifest = fs::read(bundle.path().join("manifest.toml")).unwrap();
    let signature = minisign::sign(None, &keys.sk, Cursor::new(manifest), None, None).unwrap();
    fs::write(bundle.path().join("manifest.toml.minisig"), signature.into_string()).unwrap();
    assert_eq!(verify().0, Some(0));
    let mut daemon = spawn(&[("BUNDLE", folder), ("TRUSTED_KEYS", &key)]);
    daemon.wait_ready();
    assert_eq!(daemon.terminate(), Some(0));

    let mut daemon = spawn(&[("BUNDLE", folder), ("TRUSTED_KEYS", &key), ("MINIMUM_VERSION", "99.0")]);
    assert_eq!(daemon.exit().code(), Some(78));
    assert!(daemon.log().contains("99.0.0"), "{}", daemon.log());
}
