//! A lab under test, driven as a person would: commands in, exit codes and files out, every wait with a limit.

use crate::lab::control::{self, Connection, Request};
use crate::lab::fabric::Side;
use crate::lab::state::StateDirectory;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Name of the lab that the tests run, beside whatever lab a person may have running.
pub const NAME: &str = "test";
/// For what takes seconds even on a busy machine.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// For booting and configuring two routers.
const UP_LIMIT: Duration = Duration::from_secs(180);
/// For the demo: it boots, and downloads twice and more.
const DEMO_LIMIT: Duration = Duration::from_secs(300);
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    /// Exit code 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// The standard output of a program that succeeded.
    ///
    /// # Errors
    /// It failed; what it said.
    pub fn good(self) -> Result<String> {
        if !self.success {
            bail!("{}", one_line(&format!("{} {}", self.stderr, self.stdout)));
        }
        Ok(self.stdout)
    }
}

/// A running lab and the directory of the test's files.
#[derive(Debug)]
pub struct World {
    program: PathBuf,
    image: String,
    directory: PathBuf,
    state: StateDirectory,
    outputs: u32,
}

impl World {
    /// Starts the lab `name` by the program `lab` with an image; `options` as of `lab up`. A lab left over from an earlier run of the
    /// tests is stopped first.
    ///
    /// # Errors
    /// The lab does not start.
    pub fn up(
        program: &Path,
        image: &Path,
        directory: &Path,
        name: &str,
        options: &[&str],
    ) -> Result<Self> {
        let mut world = Self {
            program: program.to_path_buf(),
            image: image.display().to_string(),
            directory: directory.to_path_buf(),
            state: StateDirectory::of(name)?,
            outputs: 0,
        };
        if world.state.connect().is_ok() {
            world
                .lab(&["down", "--name", name], COMMAND_LIMIT)?
                .good()?;
        }
        let image = world.image.clone();
        let mut arguments = vec!["up", "--name", name, "--image", &image];
        arguments.extend(options);
        world
            .lab(&arguments, UP_LIMIT)?
            .good()
            .context("cargo lab up")?;
        Ok(world)
    }

    /// Starts a second lab beside this one, which ends with the value; its files are in a directory of its own.
    ///
    /// # Errors
    /// The lab does not start.
    pub fn another(&self, name: &str, options: &[&str]) -> Result<Self> {
        let directory = self.file(name);
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let name = format!("{NAME}-{name}");
        let image = Path::new(&self.image);
        Self::up(&self.program, image, &directory, &name, options)
    }

    /// Where the lab lives: its servers' logs and its clients' leases.
    #[must_use]
    pub fn state(&self) -> &StateDirectory {
        &self.state
    }

    /// Where files of the test go; seen by all hosts under the same name.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of a file of the test.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The file of a router's flash.
    #[must_use]
    pub fn flash(&self, router: &str) -> PathBuf {
        self.state.file(&format!("router-{router}.flash"))
    }

    fn lab(&mut self, arguments: &[&str], limit: Duration) -> Result<Ran> {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        self.run(&mut command, limit)
    }

    fn on_host(&self, host: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["exec", "--name", self.state.name(), host, "--"])
            .args(arguments);
        command
    }

    /// Runs a program on a host until it ends.
    ///
    /// # Errors
    /// It did not start, or did not end within `limit`.
    pub fn exec(&mut self, host: &str, arguments: &[&str], limit: Duration) -> Result<Ran> {
        let mut command = self.on_host(host, arguments);
        self.run(&mut command, limit)
            .with_context(|| format!("{} on {host}", arguments.join(" ")))
    }

    /// Starts a program on a host; it is ended with the value.
    ///
    /// # Errors
    /// It did not start.
    pub fn spawn(&mut self, host: &str, arguments: &[&str]) -> Result<Running> {
        let mut command = self.on_host(host, arguments);
        self.start(&mut command)
    }

    /// Starts a program with its outputs in files: a pipe would be held open by whatever it leaves running.
    fn start(&mut self, command: &mut Command) -> Result<Running> {
        self.outputs += 1;
        let stdout = self.file(&format!("output-{:03}", self.outputs));
        let stderr = stdout.with_extension("err");
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).with_context(|| stdout.display().to_string())?)
            .stderr(File::create(&stderr).with_context(|| stderr.display().to_string())?)
            .spawn()
            .with_context(|| command.get_program().to_string_lossy().into_owned())?;
        Ok(Running {
            child,
            stdout,
            stderr,
        })
    }

    fn run(&mut self, command: &mut Command, limit: Duration) -> Result<Ran> {
        self.start(command)?.wait(limit)
    }

    /// Gives a router a console command; its answer.
    ///
    /// # Errors
    /// The router does not answer.
    pub fn console(&self, router: &str, command: &str) -> Result<String> {
        control::ask(
            &self.state,
            &Request::Command {
                router: router.to_owned(),
                command: command.to_owned(),
                timeout_ms: 20_000,
            },
        )
        .with_context(|| format!("router {router}, `{command}`"))
    }

    /// Changes a line.
    ///
    /// # Errors
    /// No such line or no such change.
    pub fn link(&self, line: &str, change: &str) -> Result<()> {
        let _status: Value = control::ask(
            &self.state,
            &Request::Link {
                line: line.to_owned(),
                from: None,
                changes: vec![change.to_owned()],
            },
        )
        .with_context(|| format!("line {line}, {change}"))?;
        Ok(())
    }

    /// Switches a router off and on, and configures it again if asked to wait for that.
    ///
    /// # Errors
    /// It does not come up.
    pub fn reset(&self, router: &str, configure: bool) -> Result<()> {
        let request = Request::Reset {
            router: router.to_owned(),
            configure,
        };
        let mut connection = Connection::open(&self.state)?;
        connection.send(&request)?;
        connection
            .answer::<Value>(|_| ())
            .with_context(|| format!("reset of router {router}"))?;
        Ok(())
    }

    /// Starts a capture of a line at the host's (of the air: router b's) end of it.
    ///
    /// # Errors
    /// No such line.
    pub fn capture(&self, line: &str, name: &str) -> Result<Capture> {
        let file = self.file(name);
        let mut connection = Connection::open(&self.state)?;
        connection.send(&Request::Capture {
            line: line.to_owned(),
            file: file.clone(),
            side: Side::B,
            hold: false,
        })?;
        connection.answer::<Value>(|_| ())?;
        Ok(Capture {
            state: self.state.clone(),
            line: line.to_owned(),
            file,
        })
    }

    /// Runs `lab demo` in a lab of its own; its figures.
    ///
    /// # Errors
    /// The demo failed.
    pub fn demo(&mut self, options: &[&str]) -> Result<Value> {
        let file = self.file("demo.json");
        std::fs::remove_file(&file).ok();
        let text = file.display().to_string();
        let image = self.image.clone();
        let mut arguments = vec!["demo", "--json", &text, "--image", &image];
        arguments.extend(options);
        self.lab(&arguments, DEMO_LIMIT)?
            .good()
            .context("cargo lab demo")?;
        serde_json::from_slice(&std::fs::read(&file)?).context("the demo's figures")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let name = self.state.name().to_owned();
        match self.lab(&["down", "--name", &name], COMMAND_LIMIT) {
            Ok(ran) if ran.success => {}
            Ok(ran) => println!("the lab does not go down: {}", one_line(&ran.stderr)),
            Err(error) => println!("the lab does not go down: {error:#}"),
        }
    }
}

/// A capture that goes on.
#[derive(Debug)]
pub struct Capture {
    state: StateDirectory,
    line: String,
    file: PathBuf,
}

impl Capture {
    /// Ends it and gives its file.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn stop(self) -> Result<PathBuf> {
        let request = Request::CaptureStop { line: self.line };
        let _frames: Value = control::ask(&self.state, &request)?;
        Ok(self.file)
    }
}

/// A program on a host; ended with the value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end within `limit`; it is ended then.
    pub fn wait(mut self, limit: Duration) -> Result<Ran> {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                let said = std::fs::read_to_string(&self.stderr).unwrap_or_default();
                bail!(
                    "it hangs: no end after {} s; it said: {}",
                    limit.as_secs(),
                    one_line(&said)
                );
            }
            std::thread::sleep(POLL);
        };
        Ok(Ran {
            success: status.success(),
            stdout: read_lossy(&self.stdout),
            stderr: read_lossy(&self.stderr),
        })
    }

    /// The file of its standard error.
    #[must_use]
    pub fn stderr(&self) -> &Path {
        &self.stderr
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Waits until `condition` holds.
///
/// # Errors
/// It does not hold within `limit`, or cannot be told.
pub fn until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !condition()? {
        if Instant::now() >= deadline {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// A program's words on one line, cut to what one reads.
#[must_use]
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(400).collect()
}
