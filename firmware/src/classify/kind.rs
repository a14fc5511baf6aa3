//! What kind of content a path or a media type names.
//!
//! A path can only hint; the reply's own type decides. What makes up a page (documents, scripts,
//! styles, pictures, fonts, small text) is never held, whatever the settings say.

use crate::settings::Kind;

/// What a request's path says about the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum PathSays {
    /// Content of this kind.
    Is(Kind),
    /// Nothing: the reply's type decides.
    Nothing,
    /// A page or a part of one.
    PartOfPage,
}

impl PathSays {
    /// The kind that the path names.
    pub fn kind(self) -> Option<Kind> {
        match self {
            PathSays::Is(kind) => Some(kind),
            PathSays::Nothing | PathSays::PartOfPage => None,
        }
    }
}

/// Longest extension in the table, bytes.
const EXTENSION_BYTES_MAX: usize = 8;

/// Reads the extension of the last segment of a target's path.
pub fn by_target(target: &[u8]) -> PathSays {
    let path = target
        .split(|&byte| byte == b'?')
        .next()
        .unwrap_or_default();
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if name.is_empty() {
        return PathSays::PartOfPage;
    }
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.') else {
        return PathSays::Nothing;
    };
    let extension = &name[dot + 1..];
    let mut lower = [0; EXTENSION_BYTES_MAX];
    let Some(lower) = lower.get_mut(..extension.len()) else {
        return PathSays::Nothing;
    };
    lower.copy_from_slice(extension);
    lower.make_ascii_lowercase();
    match core::str::from_utf8(lower).unwrap_or_default() {
        "mp4" | "m4v" | "mkv" | "webm" | "mov" | "avi" | "mpg" | "mpeg" | "ts" | "m2ts" | "mts"
        | "wmv" | "flv" | "ogv" | "3gp" | "m4s" | "vob" => PathSays::Is(Kind::Video),
        "mp3" | "m4a" | "m4b" | "aac" | "flac" | "ogg" | "oga" | "opus" | "wav" | "wma" | "aif"
        | "aiff" | "mka" => PathSays::Is(Kind::Audio),
        "zip" | "gz" | "tgz" | "xz" | "txz" | "bz2" | "tbz2" | "zst" | "lz4" | "lzma" | "7z"
        | "rar" | "tar" | "cab" | "deb" | "udeb" | "rpm" | "apk" | "ipk" | "jar" | "war"
        | "whl" | "crate" | "nupkg" | "exe" | "msi" | "msix" | "dmg" | "pkg" | "appimage"
        | "snap" | "flatpak" | "pdf" | "epub" | "doc" | "docx" | "xls" | "xlsx" | "ppt"
        | "pptx" | "odt" | "ods" | "odp" | "ps" | "sqlite" | "psd" => {
            PathSays::Is(Kind::Application)
        }
        "bin" | "iso" | "img" | "raw" | "dat" | "data" | "qcow2" | "vmdk" | "vdi" | "vhd"
        | "vhdx" | "ova" | "rom" | "fw" | "trx" | "dump" | "pak" | "gguf" => {
            PathSays::Is(Kind::Binary)
        }
        "html" | "htm" | "xhtml" | "shtml" | "php" | "php5" | "phtml" | "asp" | "aspx" | "jsp"
        | "jspx" | "cgi" | "do" | "css" | "js" | "mjs" | "cjs" | "map" | "json" | "jsonld"
        | "xml" | "rss" | "atom" | "wasm" | "png" | "jpg" | "jpeg" | "jpe" | "gif" | "webp"
        | "avif" | "apng" | "svg" | "svgz" | "ico" | "bmp" | "tif" | "tiff" | "heic" | "jxl"
        | "woff" | "woff2" | "ttf" | "otf" | "eot" | "txt" | "text" | "md" | "csv" | "tsv"
        | "log" | "ini" | "yml" | "yaml" | "vtt" | "srt" | "m3u" | "m3u8" | "mpd" | "pls"
        | "asc" | "sig" | "sha1" | "sha256" | "md5" => PathSays::PartOfPage,
        _ => PathSays::Nothing,
    }
}

/// Reads a `Content-Type` value; `None` for what is never split.
///
/// An absent value is [`Kind::Binary`]: the origin named nothing (RFC 9110, section 8.3).
pub fn by_content_type(value: Option<&[u8]>) -> Option<Kind> {
    let Some(value) = value else {
        return Some(Kind::Binary);
    };
    let essence = value.split(|&byte| byte == b';').next()?.trim_ascii_end();
    let slash = essence.iter().position(|&byte| byte == b'/')?;
    let (top, sub) = (&essence[..slash], &essence[slash + 1..]);
    let is_token = |part: &[u8]| {
        !part.is_empty() && part.iter().copied().all(crate::wire::http::is_token_byte)
    };
    if !is_token(top) || !is_token(sub) {
        return None;
    }
    let is = |part: &[u8], name: &str| part.eq_ignore_ascii_case(name.as_bytes());
    let ends =
        |suffix: &str| sub.len() > suffix.len() && is(&sub[sub.len() - suffix.len()..], suffix);
    if is(sub, "octet-stream") && (is(top, "application") || is(top, "binary")) {
        Some(Kind::Binary)
    } else if is(top, "video") {
        Some(Kind::Video)
    } else if is(top, "audio") && !is(sub, "mpegurl") && !is(sub, "x-mpegurl") {
        Some(Kind::Audio)
    } else if is(top, "application") {
        const PAGE: [&str; 12] = [
            "json",
            "javascript",
            "x-javascript",
            "ecmascript",
            "xml",
            "xml-dtd",
            "wasm",
            "x-www-form-urlencoded",
            "vnd.apple.mpegurl",
            "x-mpegurl",
            "font-woff",
            "x-font-ttf",
        ];
        let page = PAGE.iter().any(|name| is(sub, name)) || ends("+json") || ends("+xml");
        (!page).then_some(Kind::Application)
    } else {
        None
    }
}

/// Whether a `Content-Type` value is `text/plain`, the default that servers give to what they do not know.
pub fn is_plain_text(value: Option<&[u8]>) -> bool {
    let essence = value
        .unwrap_or_default()
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default();
    essence.trim_ascii_end().eq_ignore_ascii_case(b"text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_judged_by_its_last_extension() {
        for (target, says) in [
            ("/a.mp4", PathSays::Is(Kind::Video)),
            ("/a/b.FLAC", PathSays::Is(Kind::Audio)),
            (
                "/linux-6.1.tar.xz?mirror=1.html",
                PathSays::Is(Kind::Application),
            ),
            ("/debian.iso", PathSays::Is(Kind::Binary)),
            ("/", PathSays::PartOfPage),
            ("/a.zip/", PathSays::PartOfPage),
            ("/?file=a.zip", PathSays::PartOfPage),
            ("/a.html", PathSays::PartOfPage),
            ("/a.zip.css", PathSays::PartOfPage),
            ("/a.JPG", PathSays::PartOfPage),
            ("/download", PathSays::Nothing),
            ("/v1.2", PathSays::Nothing),
            ("/a.zip/download", PathSays::Nothing),
            ("/a.", PathSays::Nothing),
            ("/a.extension", PathSays::Nothing),
            ("/.zip", PathSays::Is(Kind::Application)),
        ] {
            assert_eq!(by_target(target.as_bytes()), says, "{target}");
        }
    }

    #[test]
    fn a_media_type_is_wanted_unless_it_makes_up_a_page() {
        for (value, kind) in [
            ("video/mp4", Some(Kind::Video)),
            ("AUDIO/flac", Some(Kind::Audio)),
            ("application/zip", Some(Kind::Application)),
            ("application/zip; name=x", Some(Kind::Application)),
            ("application/octet-stream", Some(Kind::Binary)),
            ("binary/octet-stream", Some(Kind::Binary)),
            ("text/plain", None),
            ("text/html; charset=utf-8", None),
            ("image/png", None),
            ("font/woff2", None),
            ("application/json", None),
            ("application/JavaScript", None),
            ("application/xhtml+xml", None),
            ("application/ld+json", None),
            ("application/vnd.apple.mpegurl", None),
            ("multipart/byteranges; boundary=x", None),
            ("application", None),
            ("application/", None),
            ("application/a b", None),
            ("", None),
        ] {
            assert_eq!(by_content_type(Some(value.as_bytes())), kind, "{value}");
        }
        assert_eq!(by_content_type(None), Some(Kind::Binary));
    }
}
