use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use intentd_engine::Thresholds;

use super::*;

fn load(flags: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let flags = flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Config::load(&Sources { file: None, flags })
}

fn load_file(text: &str) -> Result<Config, Mistakes> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("intentd.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(&Sources { file: Some(file), flags: Vec::new() })
}

fn mistakes<T: fmt::Debug>(result: Result<T, Mistakes>) -> Vec<String> {
    result.unwrap_err().0.into_iter().map(|mistake| mistake.key).collect()
}

#[test]
fn the_defaults_are_the_contract() {
    let config = load(&[]).unwrap();
    let mqtt = config.mqtt.unwrap();
    assert_eq!(config.grpc.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(config.http.unwrap().to_string(), "127.0.0.1:9464");
    assert_eq!(mqtt.broker, Broker::Embedded("127.0.0.1:1883".parse().unwrap()));
    assert_eq!(mqtt.protocol, Protocol::V311);
    assert_eq!(mqtt.client_id, format!("intentd-{}", config.gateway));
    assert_eq!(mqtt.routes.len(), 1);
    assert_eq!(mqtt.receive_maximum, 64);
    assert_eq!(mqtt.session_expiry, Duration::from_secs(24 * 3600));
}

#[test]
fn all_mistakes_are_told_at_once_by_key() {
    let text = r#"
        gatewya = "typo"
        gateway = "a b"
        http = "off"
        [grpc]
        listen = "localhost"
        max_streams = "many"
        [mqtt]
        broker = "ftp://x"
        keep_alive = "1s"
        response_prefixes = 5
        [[mqtt.routes]]
        subscribe = "a/+/b"
        codec = "xml"
        qos = 2
        quality = 1
        [log]
        level = "loud=very"
    "#;
    let mut keys = mistakes(load_file(text));
    keys.sort();
    let expected = [
        "gateway",
        "gatewya",
        "grpc.listen",
        "grpc.max_streams",
        "http",
        "log.level",
        "mqtt.broker",
        "mqtt.keep_alive",
        "mqtt.response_prefixes",
        "mqtt.routes[0]",
        "mqtt.routes[0].codec",
        "mqtt.routes[0].qos",
        "mqtt.routes[0].quality",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn routes_name_their_tasks_and_further_bundles_have_blocks() {
    let route = "[[mqtt.routes]]\nbundle = \"text-en\"\ntasks = [\"slots\", \"intent\", \"slots\"]\n";
    let block =
        "[[model.more]]\nbundle = \"a\"\n[[model.more]]\nbundle = \"b\"\nfallback = \"c\"\nnames = \"d\"\n";
    let config = load_file(&format!("{route}{block}")).unwrap();
    let route = &config.mqtt.unwrap().routes[0];
    assert_eq!(
        (route.bundle.as_str(), route.tasks.as_slice()),
        ("text-en", &[Task::Intent, Task::Slots][..])
    );
    let alone = Bundle { folder: "a".into(), ..Default::default() };
    let whole = Bundle { folder: "b".into(), fallback: Some("c".into()), names: Some("d".into()) };
    assert_eq!(config.model.more, [alone, whole]);

    assert_eq!(mistakes(load_file("[[mqtt.routes]]\ntasks = [\"qa\"]")), ["mqtt.routes[0].tasks"]);
    for block in ["fallback = \"c\"", "bundle = \"\"", "bundle = 5", "bundle = \"a\"\nname = \"b\""] {
        assert_eq!(mistakes(load_file(&format!("[[model.more]]\n{block}"))), ["model.more[0]"], "{block}");
    }
    assert_eq!(mistakes(load_file(&"[[model.more]]\nbundle = \"a\"\n".repeat(8))), ["model.more"]);
    assert_eq!(mistakes(load(&[("model.more", "models/text-en")])), ["model.more"]);
}

/// Every key of the shipped file can be set by a flag, which is read like the environment: as text.
#[test]
fn every_scalar_key_is_read_from_text() {
    let defaults = defaults().unwrap();
    let mut leaves = Vec::new();
    collect(&defaults, "", &mut leaves);
    assert!(leaves.len() > 20, "{leaves:?}");
    for (key, value) in leaves {
        let config = load(&[(&key, &value)]);
        assert!(config.is_ok(), "{key} = {value}: {config:?}");
        if !value.is_empty()
            && key != "gateway"
            && !key.ends_with("bundle")
            && !key.ends_with("response_prefixes")
        {
            let wrong = load(&[(&key, "\u{1}wrong=value=")]);
            assert_eq!(mistakes(wrong), std::slice::from_ref(&key), "{key} takes anything");
        }
    }
}

fn collect(tree: &serde_json::Value, path: &str, leaves: &mut Vec<(String, String)>) {
    match tree {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(value, &path, leaves);
            }
        }
        serde_json::Value::String(text) => leaves.push((path.to_owned(), text.clone())),
        serde_json::Value::Array(items) if items.iter().all(serde_json::Value::is_string) => {
            let items: Vec<&str> = items.iter().filter_map(serde_json::Value::as_str).collect();
            leaves.push((path.to_owned(), items.join(",")));
        }
        serde_json::Value::Array(_) => {}
        other => leaves.push((path.to_owned(), other.to_string())),
    }
}

#[test]
fn a_route_takes_what_it_leaves_out_from_the_default_route() {
    let config = load_file(
        "[[mqtt.routes]]\nsubscribe = \"home/{site}/{device}/say\"\npublish = \"home/{site}/{device}/meant\"\n",
    );
    let mqtt = config.unwrap().mqtt.unwrap();
    assert_eq!((mqtt.routes.len(), mqtt.routes[0].codec, mqtt.routes[0].qos), (1, Codec::Json, 1));
}

#[test]
fn loops_are_refused() {
    let same = "[[mqtt.routes]]\nsubscribe = \"a/{device}/x\"\npublish = \"a/{device}/x\"\n";
    assert_eq!(mistakes(load_file(same)), ["mqtt.routes[0].publish"]);
    let own = "gateway = \"g\"\n[[mqtt.routes]]\nsubscribe = \"intentd/{site}/{device}\"\npublish = \"out/{device}\"\n";
    assert_eq!(mistakes(load_file(own)), ["mqtt.routes[0].subscribe"; 2], "status and dead letters");
}

#[test]
fn a_probe_needs_mqtt_5_and_says_why() {
    let probe = |broker: &str, protocol: &str| {
        load(&[("mqtt.probe", "true"), ("mqtt.broker", broker), ("mqtt.protocol", protocol)])
    };
    assert!(probe("mqtt://b", "5").unwrap().mqtt.unwrap().probe);
    for (broker, protocol) in [("mqtt://b", "3.1.1"), ("embedded", "5")] {
        let told = probe(broker, protocol).unwrap_err();
        assert_eq!(told.0.len(), 1, "{told}");
        assert!(
            told.0[0].key == "mqtt.probe" && told.to_string().contains("acknowledges a publication"),
            "{told}"
        );
    }
    assert_eq!(mistakes(load(&[("mqtt.probe", "perhaps")])), ["mqtt.probe"]);
}

#[test]
fn doors_stay_on_loopback() {
    let open = load(&[("grpc.listen", "0.0.0.0:50051")]).unwrap_err().to_string();
    for part in ["grpc.listen", "grpc.tls.cert", "grpc.tls.key", "grpc.tls.client_ca", "grpc.tokens_file"] {
        assert!(open.contains(part), "{open}");
    }
    assert_eq!(mistakes(load(&[("http.listen", "0.0.0.0:9464")])), ["http.listen"]);
    assert!(load(&[("http.listen", "0.0.0.0:9464"), ("http.allow_remote", "true")]).is_ok());
    assert_eq!(mistakes(load(&[("mqtt.embedded.listen", "192.0.2.1:1883")])), ["mqtt.embedded.listen"]);
    assert_eq!(mistakes(load(&[("http.listen", "127.0.0.1:50051")])), ["http.listen"]);
}

#[test]
fn who_listens_on_the_way_hears_a_plain_broker() {
    let overheard = |url: &str| load(&[("mqtt.broker", url)]).unwrap().mqtt.unwrap().broker.is_overheard();
    assert!(overheard("mqtt://broker.lan") && overheard("mqtt://192.0.2.1"));
    for safe in
        ["mqtts://broker.lan", "mqtt://localhost", "mqtt://[::1]:1884", "mqtt://127.0.0.2", "embedded"]
    {
        assert!(!overheard(safe), "{safe}");
    }
}

/// What is half set must not look as if it were locked.
#[test]
fn half_a_lock_is_a_mistake() {
    let keys = |flags: &[(&str, &str)]| mistakes(load(flags));
    assert_eq!(keys(&[("grpc.tls.cert", "/c")]), ["grpc.tls.key"]);
    assert_eq!(keys(&[("grpc.tls.key", "/k")]), ["grpc.tls.cert"]);
    assert_eq!(keys(&[("grpc.tls.client_ca", "/ca")]), ["grpc.tls.client_ca"]);
    assert_eq!(keys(&[("grpc.tokens_file", "/nonexistent")]), ["grpc.tokens_file"]);
    assert_eq!(keys(&[("mqtt.tls.ca", "/ca")]), ["mqtt.tls"], "the broker is not reached by TLS");
    assert_eq!(keys(&[("mqtt.broker", "mqtts://b"), ("mqtt.tls.ca", "/nonexistent")]), ["mqtt.tls.ca"]);
    assert_eq!(keys(&[("mqtt.broker", "mqtts://b"), ("mqtt.tls.cert", "/c")]), ["mqtt.tls.key"]);
}

#[test]
fn brokers_are_read() {
    let broker = |url: &str| load(&[("mqtt.broker", url)]).map(|config| config.mqtt.map(|mqtt| mqtt.broker));
    let remote = |host: &str, port| Ok(Some(Broker::Remote { host: host.to_owned(), port, tls: None }));
    assert_eq!(broker("mqtt://broker.lan"), remote("broker.lan", 1883));
    assert_eq!(broker("mqtt://10.0.0.2:1884"), remote("10.0.0.2", 1884));
    assert_eq!(broker("mqtt://[::1]:1884"), remote("::1", 1884));
    assert_eq!(broker("mqtt://[::1]"), remote("::1", 1883));
    assert_eq!(broker("off"), Ok(None));
    let secure = |host: &str, port| {
        Ok(Some(Broker::Remote { host: host.to_owned(), port, tls: Some(ClientFiles::default()) }))
    };
    assert_eq!(broker("mqtts://broker.lan"), secure("broker.lan", 8883));
    assert_eq!(broker("mqtts://[::1]:443"), secure("::1", 443));
    for wrong in
        ["mqtt://", "mqtts://", "mqtts://u:canary@h", "mqtt://u:canary@h", "mqtt://h:99999", "broker.lan"]
    {
        let told = broker(wrong).unwrap_err();
        assert_eq!(told.0.len(), 1, "{wrong}: {told}");
        assert!(told.0[0].key == "mqtt.broker" && !told.to_string().contains("canary"), "{wrong}: {told}");
    }
    let flags = vec![("mqtt.broker".to_owned(), "mqtts://u:canary@h".to_owned())];
    let shown = show(&Sources { file: None, flags }).unwrap();
    assert!(shown.contains("mqtts://[redacted]@h") && !shown.contains("canary"), "{shown}");
}

#[test]
fn a_password_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "canary-4711\n").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let path = file.to_string_lossy().into_owned();
    let config = load(&[("mqtt.password_file", &path)]).unwrap();
    assert!(!format!("{config:?}").contains("canary"));
    assert_eq!(config.mqtt.unwrap().password_file, Some(file));
    let flags = vec![("mqtt.password_file".to_owned(), path)];
    assert!(!show(&Sources { file: None, flags }).unwrap().contains("canary"));
    assert_eq!(mistakes(load(&[("mqtt.password_file", "/nonexistent")])), ["mqtt.password_file"]);
}

#[test]
fn thresholds_are_probabilities_in_order() {
    assert_eq!(load(&[]).unwrap().model.thresholds, Thresholds::default());
    let set = load(&[("model.recognized", "0.9"), ("model.not_recognized", "0.2")]).unwrap();
    assert_eq!(set.model.thresholds, Thresholds { recognized: Some(0.9), not_recognized: Some(0.2) });
    for (key, value) in
        [("model.recognized", "1.1"), ("model.recognized", "NaN"), ("model.not_recognized", "few")]
    {
        assert_eq!(mistakes(load(&[(key, value)])), [key], "{value}");
    }
    let crossed = load(&[("model.recognized", "0.2"), ("model.not_recognized", "0.9")]);
    assert_eq!(mistakes(crossed), ["model.not_recognized"]);
}

#[test]
fn trust_is_read() {
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let config = load(&[("model.trusted_keys", key), ("model.minimum_version", "0.2")]).unwrap();
    let trust = config.model.trust;
    assert_eq!((trust.keys, trust.minimum_version), (vec![key.parse().unwrap()], "0.2.0".parse().ok()));
    // The other line of a .pub file, a key that was cut, and a secret key.
    for wrong in ["untrusted comment: minisign public key", &key[..55], "RWRTY0Iy"] {
        assert_eq!(mistakes(load(&[("model.trusted_keys", wrong)])), ["model.trusted_keys"], "{wrong}");
    }
    assert_eq!(mistakes(load(&[("model.minimum_version", "new")])), ["model.minimum_version"]);
}

#[test]
fn routes_are_bounded() {
    let routes = |n: usize| -> String {
        let route =
            |i| format!("[[mqtt.routes]]\nsubscribe = \"a{i}/{{device}}\"\npublish = \"b{i}/{{device}}\"\n");
        (0..n).map(route).collect()
    };
    assert!(load_file(&routes(64)).is_ok());
    assert_eq!(mistakes(load_file(&routes(65))), ["mqtt.routes"]);
}
