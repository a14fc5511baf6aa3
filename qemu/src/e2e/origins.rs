//! The origins of a lab under test: real servers on the host `origin`, and what they wrote down.
//!
//! | address | server | purpose |
//! | --- | --- | --- |
//! | .10 | nginx | the usual case |
//! | .11 | `origin.py` | misbehaves on demand; records every byte it receives |
//! | .12 | lighttpd | another server's ways |
//! | .13 | Python's `http.server` | has no ranges |
//! | .14 | nginx | refuses router B's line with 403 |

use crate::e2e::world::{Running, World, until};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// nginx.
pub const NGINX: &str = "198.51.100.10";
/// The origin that records and misbehaves.
pub const RECORDER: &str = "198.51.100.11";
/// lighttpd.
pub const LIGHTTPD: &str = "198.51.100.12";
/// Python's `http.server`.
pub const PYTHON: &str = "198.51.100.13";
/// nginx that refuses router B.
pub const REFUSING: &str = "198.51.100.14";
/// Router A's address on its line, as origins see it.
pub const WAN_A: &str = "203.0.113.2";
/// Router B's.
pub const WAN_B: &str = "203.0.113.66";

const START_LIMIT: Duration = Duration::from_secs(30);
/// How long after a download a server may still be writing its log.
const LOG_SETTLE: Duration = Duration::from_millis(400);

/// All servers, running.
#[derive(Debug)]
pub struct Origins {
    directory: PathBuf,
    python_log: PathBuf,
    _servers: Vec<Running>,
}

/// A line of an origin's log: a request and what was sent for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who asked.
    pub address: String,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The path.
    pub path: String,
    /// The field Range, empty without.
    pub range: String,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of body sent.
    pub bytes: u64,
}

impl Origins {
    /// Starts every server and waits until each answers.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn start(world: &mut World, files: &Path) -> Result<Self> {
        let directory = world.directory().join("origins");
        let record = directory.join("record");
        // What a run before left would be taken for what this one did.
        std::fs::remove_dir_all(&directory).ok();
        std::fs::create_dir_all(&record)?;
        let write = |name: &str, text: &str| -> Result<String> {
            let path = directory.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
            Ok(path.display().to_string())
        };
        let nginx = write("nginx.conf", &nginx_configuration(&directory, files))?;
        let lighttpd = write("lighttpd.conf", &lighttpd_configuration(&directory, files))?;
        let origin = write("origin.py", include_str!("origin.py"))?;
        let files = files.display().to_string();
        let record = record.display().to_string();
        let servers = vec![
            world.spawn("origin", &["nginx", "-c", &nginx, "-e", "stderr"])?,
            world.spawn(
                "origin",
                &["python3", &origin, RECORDER, "80", &files, &record],
            )?,
            world.spawn("origin", &["lighttpd", "-D", "-f", &lighttpd])?,
            world.spawn(
                "origin",
                &[
                    "python3",
                    "-m",
                    "http.server",
                    "80",
                    "--bind",
                    PYTHON,
                    "--directory",
                    &files,
                ],
            )?,
        ];
        let python_log = servers[3].stderr().to_path_buf();
        let origins = Self {
            directory,
            python_log,
            _servers: servers,
        };
        for address in [NGINX, RECORDER, LIGHTTPD, PYTHON, REFUSING] {
            let url = format!("http://{address}/honest/nothing");
            until(
                &format!("the origin at {address} answers"),
                START_LIMIT,
                || {
                    let ran = world.exec(
                        "origin",
                        &[
                            "curl",
                            "--silent",
                            "--output",
                            "/dev/null",
                            "--max-time",
                            "5",
                            &url,
                        ],
                        START_LIMIT,
                    )?;
                    Ok(ran.success)
                },
            )?;
        }
        Ok(origins)
    }

    /// How many entries the logs of nginx and lighttpd have: what comes later is what [`Origins::since`] gives.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn mark(&self, address: &str) -> Result<usize> {
        Ok(self.entries(address)?.len())
    }

    /// What an origin wrote down since a mark, once it has finished writing.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn since(&self, address: &str, mark: usize) -> Result<Vec<Entry>> {
        let mut before = self.entries(address)?;
        loop {
            std::thread::sleep(LOG_SETTLE);
            let now = self.entries(address)?;
            if now.len() == before.len() {
                return Ok(now.into_iter().skip(mark).collect());
            }
            before = now;
        }
    }

    fn entries(&self, address: &str) -> Result<Vec<Entry>> {
        if address == PYTHON {
            let text = std::fs::read_to_string(&self.python_log)?;
            return Ok(text.lines().filter_map(parse_python_entry).collect());
        }
        let path = self.directory.join(format!("{address}.log"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        text.lines()
            .map(|line| parse_entry(line).with_context(|| format!("{}: {line}", path.display())))
            .collect()
    }

    /// What the recorder received, connection by connection: who, and every byte.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn recorded(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let record = self.directory.join("record");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&record)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        names
            .into_iter()
            .map(|name| {
                let bytes = std::fs::read(record.join(&name))?;
                let peer = name.split_once('-').map_or("", |(_, peer)| peer);
                Ok((peer.to_owned(), bytes))
            })
            .collect()
    }
}

/// One log line: `ADDRESS|METHOD PATH VERSION|RANGE|STATUS|BYTES`.
fn parse_entry(line: &str) -> Option<Entry> {
    let mut parts = line.split('|');
    let address = parts.next()?.to_owned();
    let mut request = parts.next()?.split(' ');
    let range = parts.next()?;
    Some(Entry {
        address,
        method: request.next()?.to_owned(),
        path: request.next().unwrap_or_default().to_owned(),
        range: if range == "-" {
            String::new()
        } else {
            range.to_owned()
        },
        status: parts.next()?.parse().ok()?,
        bytes: parts.next()?.parse().unwrap_or(0),
    })
}

/// One log line of `http.server`: `ADDRESS - - [TIME] "METHOD PATH VERSION" STATUS -`; it tells neither Range nor bytes.
fn parse_python_entry(line: &str) -> Option<Entry> {
    let mut parts = line.split('"');
    let address = parts.next()?.split(' ').next()?.to_owned();
    let mut request = parts.next()?.split(' ');
    let status = parts.next()?.trim().split(' ').next()?.parse().ok()?;
    Some(Entry {
        address,
        method: request.next()?.to_owned(),
        path: request.next().unwrap_or_default().to_owned(),
        range: String::new(),
        status,
        bytes: 0,
    })
}

fn nginx_configuration(directory: &Path, files: &Path) -> String {
    let at = directory.display();
    let mut text = format!(
        "daemon off; user root; worker_processes 1; pid {at}/nginx.pid; error_log {at}/nginx.error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n\
         types {{ application/octet-stream bin; text/html html; }}\n\
         log_format lab '$remote_addr|$request|$http_range|$status|$body_bytes_sent';\n\
         client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;\n\
         uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n\
         sendfile on; keepalive_timeout 65;\n"
    );
    for (address, extra) in [(NGINX, String::new()), (REFUSING, format!("deny {WAN_B};"))] {
        let _infallible = writeln!(
            text,
            "server {{ listen {address}:80; root {}; access_log {at}/{address}.log lab; {extra} }}",
            files.display()
        );
    }
    text.push_str("}\n");
    text
}

fn lighttpd_configuration(directory: &Path, files: &Path) -> String {
    let (at, files) = (directory.display(), files.display());
    // A log in a file would be written seconds late; one in a pipe is written at once.
    format!(
        "server.modules = ( \"mod_accesslog\" )\n\
         server.bind = \"{LIGHTTPD}\"\n\
         server.port = 80\n\
         server.document-root = \"{files}\"\n\
         server.errorlog = \"{at}/lighttpd.error.log\"\n\
         mimetype.assign = ( \".bin\" => \"application/octet-stream\", \".html\" => \"text/html\" )\n\
         accesslog.filename = \"|cat >> {at}/{LIGHTTPD}.log\"\n\
         accesslog.format = \"%h|%r|%{{Range}}i|%s|%b\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_become_entries() {
        assert_eq!(
            parse_entry("203.0.113.66|GET /x.bin HTTP/1.1|bytes=0-99|206|100"),
            Some(Entry {
                address: WAN_B.to_owned(),
                method: "GET".to_owned(),
                path: "/x.bin".to_owned(),
                range: "bytes=0-99".to_owned(),
                status: 206,
                bytes: 100,
            })
        );
        let entry = parse_entry("203.0.113.2|HEAD /x.bin HTTP/1.1|-|200|0").expect("an entry");
        assert_eq!(entry.range, "");
        assert_eq!(parse_entry("half a li"), None);
        let line = "203.0.113.2 - - [22/Nov/2026 15:00:00] \"GET /x.bin HTTP/1.1\" 200 -";
        let entry = parse_python_entry(line).expect("an entry");
        assert_eq!((entry.method.as_str(), entry.status), ("GET", 200));
        assert_eq!(
            parse_python_entry("Serving HTTP on 198.51.100.13 port 80"),
            None
        );
    }
}
