//! What runs beside the load generator, each in a process and on ports of its own. Nothing outlives the comparison,
//! however it ends: a process is killed with its value, and by the kernel (setpriv --pdeathsig) when the thread that
//! started it is gone, so all are started on the main one.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Result;

/// Nothing takes longer to start when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of /proc/PID/stat: USER_HZ, which is 100 on everything that the daemon is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process that ends with its value.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    fn start(program: &Path, arguments: &[&OsStr], output: Stdio) -> Result<Self> {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
            .map_err(|error| format!("setpriv can't start {}: {error}", program.display()))?;
        Ok(Self { child })
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may hold spaces: state is field 3, utime 14, stime 15 (proc(5)).
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
        let ticks: Vec<f64> = fields.split(' ').skip(12).take(2).flat_map(str::parse).collect();
        Ok(Duration::from_secs_f64(ticks.iter().sum::<f64>() / TICKS_PER_SECOND))
    }

    fn wait_until(&mut self, what: &str, mut is_it: impl FnMut() -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_it() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{what}: the process ended, {status}").into());
            }
            if Instant::now() > end {
                return Err(format!("{what}: not within {} s", PATIENCE.as_secs()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server: its process and the port of its gRPC door, or of the broker.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

/// mosquitto, keeping nothing, without Nagle's algorithm, and with room for all that is under way. Started by root it
/// stays root: to change its user would undo --pdeathsig.
pub(crate) fn broker(folder: &Path) -> Result<Server> {
    let port = free_port()?;
    let file = folder.join("mosquitto.conf");
    let config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\nset_tcp_nodelay true\n\
         max_queued_messages 0\nmax_inflight_messages 1000\nlog_dest none\n"
    );
    std::fs::write(&file, config)?;
    let arguments = [OsStr::new("-c"), file.as_os_str()];
    let mut process = Process::start(Path::new("mosquitto"), &arguments, Stdio::null())?;
    process.wait_until("mosquitto", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    Ok(Server { process, port })
}

/// The daemon with its defaults, at this broker.
pub(crate) fn intentd(binary: &Path, bundle: &Path, threads: usize, broker: u16) -> Result<Server> {
    let (port, http) = (free_port()?, free_port()?);
    let settings = [
        format!("grpc.listen=127.0.0.1:{port}"),
        format!("http.listen=127.0.0.1:{http}"),
        format!("mqtt.broker=mqtt://127.0.0.1:{broker}"),
        "gateway=compare".to_owned(),
        format!("model.bundle={}", bundle.display()),
        format!("engine.threads={threads}"),
        "log.level=warn".to_owned(),
    ];
    let mut arguments = vec![OsStr::new("serve")];
    for setting in &settings {
        arguments.extend([OsStr::new("--set"), OsStr::new(setting)]);
    }
    let mut process = Process::start(binary, &arguments, Stdio::null())?;
    process.wait_until("intentd", || is_ready(http).unwrap_or(false))?;
    Ok(Server { process, port })
}

/// One of this program's own echoes; it tells its port when it is ready.
pub(crate) fn echo(arguments: &[&OsStr]) -> Result<Server> {
    let mut process = Process::start(&std::env::current_exe()?, arguments, Stdio::piped())?;
    let output = process.child.stdout.take().ok_or("the echo has no output")?;
    let port = first_line(output)?.trim().parse().map_err(|_| "an echo didn't start")?;
    Ok(Server { process, port })
}

/// Read on a thread of its own, which ends with the process.
fn first_line(output: ChildStdout) -> Result<String> {
    let (sender, line) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        // Nobody listens any more when it came too late.
        let _ = sender.send(BufReader::new(output).read_line(&mut line).map(|_| line));
    });
    Ok(line.recv_timeout(PATIENCE).map_err(|_| "an echo didn't start in time")??)
}

/// Both doors are open.
fn is_ready(http: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", http))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200 "))
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
