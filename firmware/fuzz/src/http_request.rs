//! Requests: the verdict does not depend on the pieces they come in, and whoever reads what is taken reads the same.

use firmware::classify::{Outcome, Reason, classify};
use firmware::settings::Accel;
use firmware::wire::http::{
    ByteRange, PeerRequest, Request, write_get, write_head, write_peer_get,
};

use crate::{input, reader};

const PORT: u16 = 80;

/// Fields with which a request may not be taken, whatever their value.
const FORBIDDEN: [&str; 12] = [
    "authorization",
    "cookie",
    "cookie2",
    "expect",
    "http2-settings",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];
/// Fields that are not passed on: they are between the client and the router, or written new.
const BY_HOP: [&str; 4] = ["host", "connection", "keep-alive", "content-length"];

/// Runs the target.
pub fn run(data: &[u8]) {
    let settings = Accel::new();
    let whole = classify(data, &settings, PORT);
    for cut in input::cuts(data) {
        match classify(&data[..cut], &settings, PORT) {
            Outcome::More => {}
            verdict @ Outcome::Plain(_) => {
                assert_eq!(whole, verdict, "what {cut} bytes show is final");
            }
            verdict @ Outcome::Candidate(request) => {
                assert_eq!(
                    usize::from(request.head_len),
                    cut,
                    "taken where the head ends"
                );
                if cut == data.len() {
                    assert_eq!(whole, verdict);
                } else {
                    assert_eq!(whole, Outcome::Plain(Reason::Pipelined));
                }
            }
        }
    }
    if let Outcome::Candidate(request) = whole {
        check_taken(&request, data);
    }
}

fn check_taken(request: &Request, data: &[u8]) {
    let head = reader::read(data).expect("an independent reader takes it, too");
    assert_eq!(head.len, data.len(), "it ends where the input ends");
    let [method, target, version] = &head.first;
    assert_eq!((method.as_str(), version.as_str()), ("GET", "HTTP/1.1"));
    assert_eq!(target.as_bytes(), request.target.of(data));
    assert!(target.starts_with('/') && !target.contains(['#', '"', '<', '>', '\\', '^', '`']));
    assert_eq!(
        head.single("host"),
        Some(request.host.of(data)),
        "one host, the same"
    );
    check_host(request.host.text(data));
    // Framing: no body by any rule.
    for length in head.values("content-length") {
        assert_eq!(length, b"0");
    }
    for (name, _) in &head.fields {
        assert!(!FORBIDDEN.contains(&name.as_str()), "{name}");
        assert!(
            !name.starts_with("if-") && !name.starts_with("proxy-"),
            "{name}"
        );
    }
    for name in BY_HOP {
        assert!(head.values(name).len() <= 1, "{name}");
    }
    let passed_on = |head: &reader::Head| -> Vec<(String, Vec<u8>)> {
        let mut fields = head.fields.clone();
        fields.retain(|(name, _)| !BY_HOP.contains(&name.as_str()));
        fields
    };
    let fields: Vec<_> = request
        .fields()
        .iter()
        .map(|field| {
            (
                field.name.text(data).to_ascii_lowercase(),
                field.value.of(data).to_vec(),
            )
        })
        .collect();
    assert_eq!(passed_on(&head), fields);
    check_httparse(request, data, head.fields.len());

    // What is written from it says the same, and nothing else.
    let mut out = [0; 16 * 1024];
    let len = write_head(&mut out, request, data).expect("there is room");
    let written = reader::read(&out[..len]).expect("what is written is strict");
    assert_eq!(written.len, len);
    assert_eq!(
        written.first,
        ["HEAD".to_owned(), target.clone(), version.clone()]
    );
    assert_eq!(written.single("host"), head.single("host"));
    assert_eq!(passed_on(&written), fields);

    let mut numbers = input::Numbers::of(data);
    let (a, b) = (numbers.next_u64() >> 2, numbers.next_u64() >> 2);
    let range = ByteRange::new(a.min(b), a.max(b)).expect("in order");
    let asked = format!("bytes={}-{}", range.first, range.last);
    // Where the client's own range stands, ours takes its place.
    let others = |mut fields: Vec<(String, Vec<u8>)>| {
        fields.retain(|(name, _)| name != "range");
        fields
    };
    let len = write_get(&mut out, request, data, range, None).expect("there is room");
    let written = reader::read(&out[..len]).expect("what is written is strict");
    assert_eq!(written.len, len);
    assert_eq!(
        written.first,
        ["GET".to_owned(), target.clone(), version.clone()]
    );
    assert_eq!(written.single("host"), head.single("host"));
    assert_eq!(written.single("range"), Some(asked.as_bytes()));
    assert_eq!(others(passed_on(&written)), others(fields));

    let values = PeerRequest::of(request, data);
    values
        .check(PORT)
        .expect("a neighbour would ask for it as well");
    let len = write_peer_get(&mut out, &values, range, None).expect("there is room");
    let written = reader::read(&out[..len]).expect("what is written is strict");
    assert_eq!(written.len, len);
    assert_eq!(
        written.first,
        ["GET".to_owned(), target.clone(), version.clone()]
    );
    assert_eq!(written.single("range"), Some(asked.as_bytes()));
    for (name, value) in &written.fields {
        let told = ["host", "accept", "accept-encoding", "user-agent"].contains(&name.as_str());
        assert!(told || name == "connection" || name == "range", "{name}");
        assert!(!told || head.values(name).contains(&value.as_slice()));
    }
}

/// A name of letters, digits, dots and hyphens, or an address; no port but the one asked.
fn check_host(host: &str) {
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    assert_eq!(port, "80");
    assert!(
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
    );
    assert!((1..=253).contains(&name.len()) && !name.starts_with(['.', '-']));
    if name.chars().all(|c| c.is_ascii_digit() || c == '.') {
        let parts: Vec<Result<u8, _>> = name.split('.').map(str::parse).collect();
        assert!(
            parts.len() == 4 && parts.iter().all(Result::is_ok),
            "{name}"
        );
    }
}

fn check_httparse(request: &Request, data: &[u8], count: usize) {
    let mut table = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Request::new(&mut table);
    assert_eq!(
        other.parse(data),
        Ok(httparse::Status::Complete(data.len()))
    );
    assert_eq!((other.method, other.version), (Some("GET"), Some(1)));
    assert_eq!(other.path.map(str::as_bytes), Some(request.target.of(data)));
    assert_eq!(other.headers.len(), count);
    let hosts = other
        .headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("host"));
    let hosts: Vec<_> = hosts.map(|field| field.value.trim_ascii()).collect();
    assert_eq!(hosts, [request.host.of(data)]);
}
