//! The real binary, started with a configuration of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{PATIENCE, free_port, signal, wait_for};

/// A running (or stopped, or killed) daemon.
pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    environment: Vec<(String, String)>,
    command: fn(&Path) -> Command,
    /// Port of gRPC.
    pub(crate) grpc: u16,
    /// Port of metrics and health.
    pub(crate) http: u16,
    /// Port of the embedded broker, where it is used.
    pub(crate) mqtt: u16,
}

impl Daemon {
    /// Starts a daemon and waits until both its doors are ready. `mqtt` is the `[mqtt]` section of its
    /// configuration and what follows it; ports, gateway (`test`) and logs are set already.
    pub(crate) fn start(mqtt: &str) -> Self {
        let daemon = Self::spawn(mqtt, &[]);
        daemon.wait_ready();
        daemon
    }

    /// Starts a daemon at once, with more environment.
    pub(crate) fn spawn(mqtt: &str, environment: &[(&str, &str)]) -> Self {
        Self::spawn_by(serve, mqtt, environment)
    }

    /// The same by another command than the plain one, made of the path of the configuration.
    pub(crate) fn spawn_by(command: fn(&Path) -> Command, mqtt: &str, environment: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let (grpc, http, embedded) = (free_port(), free_port(), free_port());
        let config = format!(
            "gateway = \"test\"\n[grpc]\nlisten = \"127.0.0.1:{grpc}\"\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
             [log]\nformat = \"json\"\nlevel = \"info,intentd=debug\"\n{mqtt}\n\
             [mqtt.embedded]\nlisten = \"127.0.0.1:{embedded}\"\n"
        );
        std::fs::write(folder.path().join("intentd.toml"), config).unwrap();
        let environment: Vec<_> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let log = Arc::new(Mutex::new(String::new()));
        let (child, reader) = run(command, &folder, &environment, &log);
        Self { child, folder, log, reader: Some(reader), environment, command, grpc, http, mqtt: embedded }
    }

    /// Starts it again after its end, with the same configuration and ports.
    pub(crate) fn restart(&mut self) {
        self.respawn();
        self.wait_ready();
    }

    /// The same without waiting.
    pub(crate) fn respawn(&mut self) {
        let (child, reader) = run(self.command, &self.folder, &self.environment, &self.log);
        (self.child, self.reader) = (child, Some(reader));
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until `/readyz` says yes.
    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        let end = Instant::now() + PATIENCE;
        let mut last = String::new();
        while Instant::now() < end {
            match self.ready() {
                Ok(()) => return,
                Err(why) => last = why,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("not ready ({last}); its log:\n{}", self.log());
    }

    /// What `/readyz` says.
    pub(crate) fn ready(&self) -> Result<(), String> {
        match self.get("/readyz") {
            Some((200, _)) => Ok(()),
            Some((status, body)) => Err(format!("{status}: {}", body.trim())),
            None => Err("no answer".to_owned()),
        }
    }

    /// Value of a metric, with its labels as printed; 0 where it isn't there yet.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        self.metric_if_up(name).expect("metrics answer")
    }

    /// The same of a daemon that may be down.
    pub(crate) fn metric_if_up(&self, name: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics").filter(|(status, _)| *status == 200)?;
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Some(line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0))
    }

    /// Bytes that the kernel has had to store for it: pages it dirtied in files, not pipes or sockets (proc(5), `io`).
    pub(crate) fn stored_bytes(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
        written.parse().unwrap()
    }

    /// Descriptors that it has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Memory of it that lies in RAM.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Processor time that it has used, in itself and in the kernel (proc(5), `stat`, 100 ticks a second).
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        let ticks = after_name.split_whitespace().skip(11).take(2);
        Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
    }

    /// A page of its HTTP door.
    pub(crate) fn page(&self, path: &str) -> String {
        self.get(path).expect("the HTTP door answers").1
    }

    /// All that a command prints, run with its configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_intentd"))
            .args(arguments)
            .arg("--config")
            .arg(self.folder.path().join("intentd.toml"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Everything that it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// SIGTERM, and its exit code.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        signal(&self.child, "TERM");
        self.exit().code()
    }

    /// A signal, such as `TERM`, without waiting for what comes of it.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and for the end of its log.
    #[track_caller]
    pub(crate) fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the daemon's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status.unwrap()
    }

    /// Status and body of a page.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.http));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.log());
        }
    }
}

/// The daemon as it is started everywhere.
pub(crate) fn serve(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_intentd"));
    command.args(["serve", "--config"]).arg(config);
    command
}

fn run(
    command: fn(&Path) -> Command,
    folder: &TempDir,
    environment: &[(String, String)],
    log: &Arc<Mutex<String>>,
) -> (Child, JoinHandle<()>) {
    let mut child = command(&folder.path().join("intentd.toml"))
        // The bundle is found from here.
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let log = Arc::clone(log);
    let reader = std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
    (child, reader)
}
