//! The origin's real server: nginx on the host `origin`, and what it wrote down about each request.
//!
//! It ends with the host. Its files are in the lab's directory: `nginx.conf`, `nginx-access.log`, `nginx-error.log`.

use crate::lab::plan::{self, ORIGIN, ROUTERS_MAX};
use crate::lab::run;
use crate::lab::state::StateDirectory;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long nginx may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// A request, as nginx logged it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Logged {
    /// Who asked.
    pub remote: String,
    /// The request line.
    pub request: String,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the body that were sent.
    pub bytes: u64,
    /// The field `Range`, or `-`.
    pub range: String,
}

/// One process and no master: a master would change its user, which a user namespace does not allow.
fn configuration(directory: &Path, www: &Path) -> Result<String> {
    let quoted = |path: &Path| {
        let text = path.display().to_string();
        // What ends or changes a quoted word in nginx's language.
        match text.contains(['"', '\\', '$', '\n']) {
            true => bail!("nginx cannot serve a path like {text}"),
            false => Ok(text),
        }
    };
    let (directory, www) = (quoted(directory)?, quoted(www)?);
    let types = match Path::new("/etc/nginx/mime.types").exists() {
        true => "include /etc/nginx/mime.types;",
        false => "types { text/html html; }",
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path \"{directory}/nginx-{kind}\";\n"))
        .concat();
    Ok(format!(
        r#"daemon on;
master_process off;
user root root;
pid "{directory}/nginx.pid";
error_log "{directory}/nginx-error.log";
events {{ worker_connections 512; }}
http {{
    {types}
    default_type application/octet-stream;
    log_format lab escape=json '{{"remote":"$remote_addr","request":"$request","status":$status,"bytes":$body_bytes_sent,"range":"$http_range"}}';
    access_log "{directory}/nginx-access.log" lab;
{temporary}    sendfile on;
    tcp_nopush on;
    server {{
        listen {ORIGIN}:80;
        root "{www}";
        autoindex on;
    }}
}}
"#
    ))
}

/// Starts nginx with the files of `www`, and waits until it answers.
///
/// # Errors
/// No nginx, or it does not answer.
pub fn start(state: &StateDirectory, www: &Path) -> Result<()> {
    let www = www
        .canonicalize()
        .with_context(|| format!("no directory {}", www.display()))?;
    let file = state.file("nginx.conf");
    std::fs::write(&file, configuration(state.path(), &www)?).context("cannot write nginx.conf")?;
    let errors = state.file("nginx-error.log");
    let (file, errors) = (file.to_string_lossy(), errors.to_string_lossy());
    let output = run::output_on(state, "origin", &["nginx", "-c", &file, "-e", &errors])?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let reason = text
            .lines()
            .find(|line| line.contains("emerg"))
            .or(text.lines().next());
        bail!(
            "nginx does not start: {}",
            reason.unwrap_or("without a word")
        );
    }
    let deadline = Instant::now() + START_TIMEOUT;
    let url = format!("http://{ORIGIN}/");
    loop {
        let output = run::output_on(
            state,
            "origin",
            &["curl", "-s", "-o", "/dev/null", "-m", "2", &url],
        )?;
        if output.status.success() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("nginx does not answer on {url}; see nginx-error.log");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The requests logged so far; a line still being written is left out.
pub fn requests(state: &StateDirectory) -> Vec<Logged> {
    let text = std::fs::read_to_string(state.file("nginx-access.log")).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Body bytes by the line they took, in the order of the routers: what the origin sent to each router's address, by the
/// requests of one download.
///
/// A request for the whole that others joined with ranges counts up to the first byte of these: there its window ended,
/// and what the log counts beyond waited in the server's socket until the reset.
pub fn bytes_by_line(requests: &[Logged]) -> [u64; ROUTERS_MAX] {
    let first = |request: &Logged| -> Option<u64> {
        let range = request.range.strip_prefix("bytes=")?;
        range.split('-').next()?.parse().ok()
    };
    let cut = requests.iter().filter_map(first).min().unwrap_or(u64::MAX);
    let sent_to = |address: String| {
        let theirs = requests.iter().filter(|request| request.remote == address);
        theirs
            .map(|request| match first(request) {
                Some(_) => request.bytes,
                None => request.bytes.min(cut),
            })
            .sum()
    };
    std::array::from_fn(|index| sent_to(plan::wan_address(index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_for_the_router_that_asked() {
        let line = |remote: &str, bytes: u64| -> Logged {
            let text = format!(
                r#"{{"remote":"{remote}","request":"GET /f HTTP/1.1","status":206,"bytes":{bytes},"range":"bytes=0-9"}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let requests = [
            line("203.0.113.2", 1),
            line("203.0.113.66", 10),
            line("203.0.113.2", 100),
            line("198.51.100.10", 1_000),
        ];
        assert_eq!(bytes_by_line(&requests), [101, 10, 0]);
        let logged = |remote: &str, bytes: u64, range: &str| Logged {
            remote: remote.to_owned(),
            request: "GET /f HTTP/1.1".to_owned(),
            status: 200,
            bytes,
            range: range.to_owned(),
        };
        // The whole was asked for, and its end by others.
        let joined = [
            logged("203.0.113.2", 900, "-"),
            logged("203.0.113.66", 500, "bytes=500-999"),
        ];
        assert_eq!(bytes_by_line(&joined), [500, 500, 0]);
        assert_eq!(bytes_by_line(&joined[..1]), [900, 0, 0]);
        assert_eq!(
            (requests[1].status, requests[1].range.as_str()),
            (206, "bytes=0-9")
        );
    }

    #[test]
    fn a_path_that_nginx_would_read_otherwise_is_refused() {
        assert!(configuration(Path::new("/tmp"), Path::new("/a\"; evil")).is_err());
        assert!(configuration(Path::new("/tmp"), Path::new("/a $x")).is_err());
        let text = configuration(Path::new("/with space"), Path::new("/www")).unwrap();
        assert!(text.contains("root \"/www\";") && text.contains("pid \"/with space/nginx.pid\";"));
    }
}
