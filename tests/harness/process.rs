//! Child processes that never outlive the tests.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process, set_parent_process_death_signal};

use crate::wait::eventually;

pub use rustix::process::Signal;

/// A child process; killed when dropped.
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
    output: Arc<Mutex<Output>>,
}

#[derive(Default)]
struct Output {
    /// Everything, for the message of a test that fails.
    all: String,
    /// Lines of the standard output that nobody has taken yet.
    lines: VecDeque<String>,
    /// Pipes that are still open.
    open: usize,
}

impl Process {
    /// Starts a command without standard input, and keeps what it prints.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let named = format!("{command:?}");
        let mut child = spawn(command).unwrap_or_else(|error| panic!("{named}: {error}"));
        let output = Arc::new(Mutex::new(Output { open: 2, ..Output::default() }));
        read(child.stdout.take(), &output, true);
        read(child.stderr.take(), &output, false);
        Process { child, status: None, output }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        // Until it is waited for, its id cannot be given to another process.
        if self.status().is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).expect("our own child takes a signal");
        }
    }

    /// Stops it from doing anything, as a machine does that hangs: what it has
    /// open stays open. Waits until it stands still.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.id());
        let stands = || {
            let stat = std::fs::read_to_string(&stat).expect("our own child is there");
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
        };
        while !stands() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on.
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.status = self.child.wait().ok();
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("our own child can be waited for");
        }
        self.status
    }

    /// Waits until it ends by itself and everything that it printed was read.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let output = self.output.clone();
        let what = format!("process {} ends", self.id());
        eventually(within, &what, async || {
            let status = self.status()?;
            (lock(&output).open == 0).then_some(status)
        })
        .await
    }

    /// The next line of its standard output for which `wanted` holds.
    pub async fn line(&mut self, within: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let output = self.output.clone();
        let begun = Instant::now();
        let mut ended = false;
        let found = eventually(within * 2, "a line that was waited for", async || {
            let mut output = lock(&output);
            // What it did say tells more than that it was late.
            assert!(begun.elapsed() < within, "not within {within:?}:\n{}", output.all);
            while let Some(line) = output.lines.pop_front() {
                if wanted(&line) {
                    return Some(Some(line));
                }
            }
            ended = output.open == 0;
            ended.then_some(None)
        });
        let found = found.await;
        found.unwrap_or_else(|| panic!("it ended without the line:\n{}", self.output()))
    }

    /// Lines of its standard output that were not taken yet.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.output).lines.drain(..).collect()
    }

    /// Everything it has printed.
    pub fn output(&self) -> String {
        lock(&self.output).all.clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end; gives its status and everything it printed.
pub async fn run(command: Command, within: Duration) -> (ExitStatus, String) {
    let mut process = Process::start(command);
    let status = process.ended(within).await;
    (status, process.output())
}

/// Starts a child that the kernel kills when this process is gone, however it
/// ends. The kernel means the *thread* that made the child, and a test's
/// thread ends with its test: so one thread, which never ends, makes them all.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::SyncSender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in taken {
                // SAFETY: between fork and exec this makes one system call,
                // which allocates nothing and takes no lock.
                unsafe {
                    command.pre_exec(|| {
                        set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into)
                    });
                }
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, child) = mpsc::sync_channel(1);
    spawner.send((command, reply)).expect("the spawner never ends");
    child.recv().expect("the spawner never ends")
}

/// Reads a pipe to its end, so that the child never waits for a reader.
fn read(pipe: Option<impl Read + Send + 'static>, output: &Arc<Mutex<Output>>, take_lines: bool) {
    let output = output.clone();
    thread::spawn(move || {
        for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
            let Ok(line) = line else { break };
            let mut output = lock(&output);
            output.all.push_str(&line);
            output.all.push('\n');
            if take_lines {
                output.lines.push_back(line);
            }
        }
        lock(&output).open -= 1;
    });
}

fn lock(output: &Mutex<Output>) -> std::sync::MutexGuard<'_, Output> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}
