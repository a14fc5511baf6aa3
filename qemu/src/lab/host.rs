//! Hosts: network namespaces with TAP devices, in which real programs run.
//!
//! `lab hold` (hidden) makes the namespaces and stays in them: a child of it is process 1 of the host's own process
//! namespace, so that whatever runs on the host ends with it. It ends when the daemon's end of its standard input
//! closes. Programs enter through `/proc/PID/ns`.
//! Follows: namespaces(7), user_namespaces(7), pid_namespaces(7), unix(7) for passing descriptors.

use crate::lab::plan::HostPlan;
use crate::lab::tap;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid};
use std::ffi::OsString;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Longest message of a holder.
const MESSAGE_BYTES: usize = 4_096;
/// Most TAPs of a host.
const TAPS_MAX: usize = 8;

/// A running host, as the daemon holds it.
#[derive(Debug)]
pub struct Host {
    /// What it is.
    pub plan: HostPlan,
    /// Process 1 of the host, by the daemon's numbering.
    pub pid: i32,
    holder: Child,
    socket: Option<OwnedFd>,
}

impl Host {
    /// Starts a host; gives its TAPs in the order of its plan.
    ///
    /// # Errors
    /// The system allows no namespaces or no TAP, with what to do about it.
    pub fn start(plan: &HostPlan, directory: &Path) -> Result<(Self, Vec<File>)> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .context("no socket pair")?;
        let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
        command
            .arg("hold")
            .arg("--directory")
            .arg(directory)
            .arg("--plan")
            .arg(serde_json::to_string(plan)?)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null());
        die_with_parent(&mut command);
        let holder = command.spawn().context("cannot start a host")?;
        // The command holds a copy of their end; without it a dead holder is seen as the end of its messages.
        drop(command);
        let mut host = Self {
            plan: plan.clone(),
            pid: 0,
            holder,
            socket: Some(ours),
        };
        let mut taps = Vec::new();
        while taps.is_empty() || host.pid == 0 {
            let Some(socket) = &host.socket else {
                bail!("host {} is stopped", plan.name)
            };
            let (message, files) =
                receive(socket).with_context(|| format!("host {}", plan.name))?;
            match message.split_once(' ') {
                Some(("pid", number)) => host.pid = number.parse().context("a holder's message")?,
                Some(("ready", _)) if files.len() == plan.taps.len() => taps = files,
                Some(("error", text)) => bail!("host {}: {text}", plan.name),
                None | Some(_) => bail!("host {} did not start; see daemon.log", plan.name),
            }
        }
        Ok((host, taps))
    }

    /// Asks the host to end, with every program on it, by closing what process 1 reads.
    pub fn hang_up(&self) {
        if let Some(socket) = &self.socket {
            // Fails only when the other end is gone already.
            nix::sys::socket::shutdown(socket.as_raw_fd(), nix::sys::socket::Shutdown::Both).ok();
        }
    }

    /// Ends the host and every program on it.
    pub fn stop(&mut self) {
        // Process 1 reads the other end.
        drop(self.socket.take());
        for _ in 0..300 {
            match self.holder.try_wait() {
                Ok(None) => std::thread::sleep(std::time::Duration::from_millis(10)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        // It failed to end in 3 s: its death signal takes process 1 along.
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes a program end when the thread that starts it ends: the daemon's main thread, which lives as long as it.
pub fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only system calls that a signal handler may make, and no allocation.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the call above.
            if nix::unistd::getppid().as_raw() as u32 != parent {
                nix::libc::_exit(1);
            }
            Ok(())
        });
    }
}

fn receive(socket: &OwnedFd) -> Result<(String, Vec<File>)> {
    let mut text = [0; MESSAGE_BYTES];
    let mut control = nix::cmsg_space!([RawFd; TAPS_MAX]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .context("no message from its holder")?;
    let mut files = Vec::new();
    for control in message.cmsgs().context("a holder's message")? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just made these descriptors for us, and nothing else knows them.
            files.extend(fds.into_iter().map(|fd| unsafe { File::from_raw_fd(fd) }));
        }
    }
    let length = message.bytes;
    if length == 0 {
        bail!("its holder ended; see daemon.log");
    }
    Ok((String::from_utf8_lossy(&text[..length]).into_owned(), files))
}

fn send(message: &str, files: &[File]) -> Result<()> {
    let bytes = &message.as_bytes()[..message.len().min(MESSAGE_BYTES)];
    let fds: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() {
        &rights[..0]
    } else {
        &rights[..]
    };
    sendmsg::<()>(
        0,
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .context("the daemon is gone")?;
    Ok(())
}

/// Runs `lab hold`: makes the namespaces of a host and stays until standard input closes.
///
/// # Errors
/// Only those of passing on what went wrong; that itself goes to the daemon.
pub fn hold(plan: &HostPlan, directory: &Path) -> Result<()> {
    if let Err(error) = make_namespaces() {
        return send(&format!("error {error:#}"), &[]);
    }
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("cannot start process 1 of a host")? {
        ForkResult::Parent { child } => {
            send(&format!("pid {child}"), &[])?;
            waitpid(child, None).context("waiting for process 1 of a host")?;
            Ok(())
        }
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("no death signal")?;
            match set_up(plan, directory) {
                Ok(taps) => send("ready ", &taps)?,
                Err(error) => return send(&format!("error {error:#}"), &[]),
            }
            stay()
        }
    }
}

/// Process 1: collects orphans until the daemon closes its end.
fn stay() -> Result<()> {
    // SAFETY: ignoring SIGCHLD makes the kernel collect children; no handler runs.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, nix::sys::signal::SigHandler::SigIgn) }
        .context("cannot ignore SIGCHLD")?;
    let mut byte = [0];
    loop {
        match nix::unistd::read(std::io::stdin(), &mut byte) {
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}

fn make_namespaces() -> Result<()> {
    let wanted = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    match unshare(wanted) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(error) => return Err(error).context("the kernel has no network namespaces"),
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(wanted | CloneFlags::CLONE_NEWUSER).context(
        "no right to make network namespaces; run as root, or allow user namespaces: \
         `sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0`",
    )?;
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn write(path: &str, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {path}"))
}

/// Settings of a host's network; those that a kernel lacks are not needed there.
fn settings(plan: &HostPlan) -> Vec<(&'static str, &'static str)> {
    vec![
        // No frame that nobody asked for.
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
        ("ipv4/ip_forward", if plan.forward { "1" } else { "0" }),
        // A peer's packets may come in by the line they would not go out by.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        // An address is answered for only on its own line.
        ("ipv4/conf/all/arp_ignore", "1"),
        ("ipv4/conf/all/arp_announce", "2"),
        // One download does not change the next.
        ("ipv4/tcp_no_metrics_save", "1"),
        ("ipv4/tcp_congestion_control", "cubic"),
    ]
}

fn set_up(plan: &HostPlan, directory: &Path) -> Result<Vec<File>> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("cannot separate the mounts of a host")?;
    // Best effort: a container may forbid it, and few programs look there.
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::empty(),
        None::<&str>,
    )
    .ok();
    for (name, value) in settings(plan) {
        std::fs::write(format!("/proc/sys/net/{name}"), value).ok();
    }
    let resolver = format!("nameserver {}\n", plan.nameserver);
    bind_file(directory, &plan.name, "/etc/resolv.conf", &resolver);
    bind_file(directory, &plan.name, "/etc/hosts", "127.0.0.1 localhost\n");

    let mut taps = Vec::new();
    let mut batch = String::from("link set lo up\n");
    for address in &plan.loopback {
        batch.push_str(&format!("addr add {address} dev lo\n"));
    }
    for device in &plan.taps {
        let name = &device.name;
        taps.push(tap::open(name)?);
        batch.push_str(&format!("link set {name} address {}\n", device.mac));
        if let Some(address) = &device.address {
            batch.push_str(&format!("addr add {address} dev {name}\n"));
        }
        batch.push_str(&format!("link set {name} up\n"));
    }
    if let Some(gateway) = &plan.gateway {
        batch.push_str(&format!("route add default via {gateway}\n"));
    }
    ip_batch(&batch)?;
    Ok(taps)
}

/// Puts a file of the host's own in place of a system file, if that exists; without it the system's is seen.
fn bind_file(directory: &Path, host: &str, target: &str, text: &str) {
    let Ok(target) = std::fs::canonicalize(target) else {
        return;
    };
    let Some(name) = target.file_name() else {
        return;
    };
    let own = directory.join(format!("{host}.{}", name.to_string_lossy()));
    if std::fs::write(&own, text).is_ok() {
        mount(
            Some(&own),
            &target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .ok();
    }
}

fn ip_batch(commands: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `ip`; get it with `cargo lab doctor --install`")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(commands.as_bytes())
            .context("cannot talk to `ip`")?;
    }
    let output = child.wait_with_output().context("cannot wait for `ip`")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`ip` refused: {}",
            text.lines().next().unwrap_or("without a word")
        );
    }
    Ok(())
}

/// Runs a program on the host whose process 1 is `pid`, with this process's standard files; gives its exit code, 128
/// and the number if a signal ended it.
///
/// # Errors
/// The host is gone, or the program cannot be run.
pub fn run_on(pid: i32, command: &[OsString]) -> Result<i32> {
    let (program, arguments) = command
        .split_first()
        .context("no program given; add it behind `--`")?;
    let directory = std::env::current_dir().ok();
    enter(pid)?;
    // Entering other mounts leads to their root.
    if let Some(directory) = directory {
        std::env::set_current_dir(directory).ok();
    }
    let mut child = Command::new(program);
    child.args(arguments);
    die_with_parent_namespaced(&mut child);
    let mut child = child
        .spawn()
        .with_context(|| format!("cannot run `{}`", program.to_string_lossy()))?;
    // A terminal's Ctrl-C reaches the program too; its end is what counts. A single SIGTERM ends both (above).
    // SAFETY: ignoring a signal runs no handler.
    unsafe { nix::sys::signal::signal(Signal::SIGINT, nix::sys::signal::SigHandler::SigIgn) }
        .context("cannot ignore SIGINT")?;
    let status = child.wait().context("cannot wait for the program")?;
    Ok(status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// As [`die_with_parent`], for a child in another process namespace, which sees its parent as 0.
fn die_with_parent_namespaced(command: &mut Command) {
    // SAFETY: one system call that a signal handler may make.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
}

/// Moves this process, which must have one thread, to a host; children are in its process namespace too.
fn enter(pid: i32) -> Result<()> {
    let open = |kind: &str| {
        nix::fcntl::open(
            format!("/proc/{pid}/ns/{kind}").as_str(),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .with_context(|| "the host is gone; see `cargo lab status`".to_owned())
    };
    let same = |kind: &str| {
        let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{kind}")).ok();
        of(&pid.to_string()) == of("self")
    };
    // The user namespace first: it gives the right to the others. All are opened before /proc changes.
    let mut kinds = vec![
        ("pid", CloneFlags::CLONE_NEWPID),
        ("net", CloneFlags::CLONE_NEWNET),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    if !same("user") {
        kinds.insert(0, ("user", CloneFlags::CLONE_NEWUSER));
    }
    let mut namespaces = Vec::new();
    for (kind, flag) in kinds {
        namespaces.push((open(kind)?, flag));
    }
    for (file, flag) in namespaces {
        setns(file, flag)
            .context("no right to enter the host; use the account that started the lab")?;
    }
    Ok(())
}

/// Waits until the process `pid` (not a child) is gone, at most so long; whether it is.
pub fn wait_gone(pid: i32, timeout: std::time::Duration) -> bool {
    let deadline = std::time::Instant::now() + timeout;
    loop {
        // As a child it would stay as a zombie until collected.
        if let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) = waitpid(
            Pid::from_raw(pid),
            Some(nix::sys::wait::WaitPidFlag::WNOHANG),
        ) {
            return true;
        }
        if nix::sys::signal::kill(Pid::from_raw(pid), None).is_err() {
            return true;
        }
        if std::time::Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
