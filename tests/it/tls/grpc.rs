use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use intentd::proto::nlu_client::NluClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{Authority, Daemon, ask, client_ca, connect, connect_and_ask, grpc_tls, said, trusting};
use crate::harness::authority::write;
use crate::harness::{free_port, wait_for};

/// Who connects, and whether they are let in.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_good_certificate_stays_outside() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    for name in ["server", "client"] {
        ours.issue(name);
    }
    theirs.issue("stranger");
    ours.issue_for("expired", &["client"], (2020, 2021));
    ours.issue_for("early", &["client"], (2998, 2999));
    let daemon = Daemon::start(&grpc_tls(&ours, "server", &client_ca(&ours)));

    let good = connect_and_ask(&daemon, trusting(&ours, Some((&ours, "client")))).await;
    assert!(good.is_ok(), "{good:?}\n{}", daemon.log());
    let strangers = [
        ("no certificate", trusting(&ours, None)),
        ("a certificate of another CA", trusting(&ours, Some((&theirs, "stranger")))),
        ("an expired certificate", trusting(&ours, Some((&ours, "expired")))),
        ("a certificate that is not valid yet", trusting(&ours, Some((&ours, "early")))),
        ("a client that trusts another CA", trusting(&theirs, Some((&ours, "client")))),
        (
            "a client that wants another name",
            trusting(&ours, Some((&ours, "client"))).domain_name("elsewhere"),
        ),
    ];
    let tries = strangers.len();
    for (what, stranger) in strangers {
        assert!(connect_and_ask(&daemon, stranger).await.is_err(), "{what} was let in");
    }
    wait_for("refused handshakes in the metrics", || {
        daemon.metric("intentd_grpc_denied_total{reason=\"tls_handshake\"}") >= tries as f64
    });

    // Plain text: answered by no byte of HTTP/2.
    let mut plain = TcpStream::connect(("127.0.0.1", daemon.grpc)).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.windows(3).any(|bytes| bytes == [0, 0, 0]), "a frame: {answer:?}");
}

/// A ParseStream that is asked again and again until told to stop; whatever goes wrong on it is returned.
async fn keep_asking(
    mut client: NluClient<Channel>,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
) -> Result<(), String> {
    let (requests, stream) = mpsc::channel(1);
    requests.send(said(0)).await.unwrap();
    let answers = client.parse_stream(ReceiverStream::new(stream)).await;
    let mut answers = answers.map_err(|status| format!("{status:?}"))?.into_inner();
    for id in 1.. {
        match tokio::time::timeout(Duration::from_secs(10), answers.message()).await {
            Ok(Ok(Some(answer))) if answer.error.is_none() => {}
            other => return Err(format!("{other:?}")),
        }
        asked.fetch_add(1, Ordering::SeqCst);
        if stop.load(Ordering::SeqCst) {
            break;
        }
        requests.send(said(id)).await.map_err(|error| error.to_string())?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Each certificate is of another CA, so that who connects can tell which one is in force.
#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_count_at_once_and_drop_no_stream() {
    let place = Authority::new("0");
    place.issue("server");
    let daemon = Daemon::start(&grpc_tls(&place, "server", ""));
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut streams = JoinSet::new();
    for _ in 0..16 {
        let client = connect(&daemon, trusting(&place, None)).await.unwrap();
        streams.spawn(keep_asking(client, Arc::clone(&stop), Arc::clone(&asked)));
    }

    let renew = |round: usize| {
        let authority = Authority::new(&round.to_string());
        authority.issue("server");
        for end in ["crt", "key"] {
            std::fs::copy(authority.path(&format!("server.{end}")), place.path(&format!("server.{end}")))
                .unwrap();
        }
        authority
    };
    let mut newest = renew(1);
    for round in 2..7 {
        daemon.signal("HUP");
        until_let_in(&daemon, &newest, Duration::from_secs(10)).await;
        newest = renew(round);
    }
    // Nobody sends a signal now.
    until_let_in(&daemon, &newest, Duration::from_secs(25)).await;
    assert!(connect_and_ask(&daemon, trusting(&place, None)).await.is_err(), "the first certificate is gone");

    // A bad one changes nothing.
    write(&place.path("server.crt"), "half a cert");
    daemon.signal("HUP");
    wait_for("a line on the bad file", || daemon.log().contains("stay in force"));
    assert!(daemon.log().contains(&*place.path("server.crt").to_string_lossy()), "{}", daemon.log());
    until_let_in(&daemon, &newest, Duration::ZERO).await;

    stop.store(true, Ordering::SeqCst);
    let ends = streams.join_all().await;
    assert!(ends.iter().all(Result::is_ok), "dropped streams: {ends:?}");
    println!("6 renewals, 16 streams, {} answers, 0 dropped", asked.load(Ordering::SeqCst));
}

async fn until_let_in(daemon: &Daemon, authority: &Authority, limit: Duration) {
    let end = Instant::now() + limit;
    while let Err(error) = connect_and_ask(daemon, trusting(authority, None)).await {
        assert!(Instant::now() < end, "{error}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// F19: peers that begin TLS and go silent, and such that never begin.
#[tokio::test(flavor = "multi_thread")]
async fn half_open_handshakes_are_cut_and_hold_nobody_up() {
    const PEERS: usize = 500;
    let authority = Authority::new("ours");
    authority.issue("server");
    let room = ["MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_ADDRESS"].map(|key| format!("INTENTD__GRPC__{key}"));
    let room = room.each_ref().map(|key| (key.as_str(), "1024"));
    let daemon = Daemon::spawn(&grpc_tls(&authority, "server", ""), &room);
    daemon.wait_ready();
    let mut client = connect(&daemon, trusting(&authority, None)).await.unwrap();
    let before = p99(&mut client, 200).await;
    let files = daemon.open_files();

    let mut peers: Vec<TcpStream> =
        (0..PEERS).map(|_| TcpStream::connect(("127.0.0.1", daemon.grpc)).unwrap()).collect();
    for peer in peers.iter_mut().step_by(2) {
        // The head of a ClientHello of 512 bytes, of which no more comes.
        peer.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
    }
    let open = || daemon.metric("intentd_grpc_connections");
    let cut = || daemon.metric("intentd_grpc_denied_total{reason=\"tls_handshake\"}");
    wait_for("all to be accepted", || open() + cut() > PEERS as f64);
    let accepted = Instant::now();
    let during = p99(&mut client, 200).await;
    assert!(connect_and_ask(&daemon, trusting(&authority, None)).await.is_ok(), "a new one gets in as well");
    wait_for("the silent ones to be cut", || cut() >= PEERS as f64 && open() <= 1.0);
    let took = accepted.elapsed();
    assert!(took < Duration::from_secs(6), "cut after {took:?}");
    wait_for("their files to be closed", || daemon.open_files() <= files + 5);
    assert!(ask(&mut client).await.is_ok());
    println!(
        "{PEERS} half-open handshakes: cut within {took:?}; p99 {before:?} before, {during:?} meanwhile"
    );
    // Generous: other tests use the same cores.
    assert!(during < before * 10 + Duration::from_millis(100), "{before:?} became {during:?}");
}

async fn p99(client: &mut NluClient<Channel>, calls: usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..calls {
        let start = Instant::now();
        ask(client).await.unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    times[calls * 99 / 100]
}

#[test]
fn beyond_loopback_the_door_opens_only_when_it_is_locked() {
    let authority = Authority::new("ours");
    authority.issue("server");
    let tokens = authority.path("tokens.toml");
    super::tokens::write_tokens(&tokens, &[("hub", super::tokens::HUB, "intentd.v1.Nlu")]);
    let tokens = tokens.to_string_lossy().into_owned();
    let with_tls = grpc_tls(&authority, "server", "");
    let with_client_ca = grpc_tls(&authority, "server", &client_ca(&authority));
    for (config, tokens, good) in [
        (super::OFF, "", false),
        (super::OFF, &*tokens, false),
        (&*with_tls, "", false),
        (&*with_tls, &*tokens, true),
        (&*with_client_ca, "", true),
        (&*with_client_ca, &*tokens, true),
    ] {
        let listen = format!("0.0.0.0:{}", free_port());
        let environment = [("INTENTD__GRPC__LISTEN", &*listen), ("INTENTD__GRPC__TOKENS_FILE", tokens)];
        let mut daemon = Daemon::spawn(config, &environment);
        if good {
            daemon.wait_ready();
            assert_eq!(daemon.terminate(), Some(0));
            continue;
        }
        assert_eq!(daemon.exit().code(), Some(78), "{config} {tokens}: {}", daemon.log());
        for key in ["grpc.listen", "grpc.tls.cert", "grpc.tls.client_ca", "grpc.tokens_file"] {
            assert!(daemon.log().contains(key), "{key} is missing in {}", daemon.log());
        }
    }
}
