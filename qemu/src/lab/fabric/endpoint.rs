//! An end of a line: a TAP or a NIC, as the forwarding thread holds it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Most bytes waiting for a machine to take them, outside of its line.
const HELD_BYTES: usize = 64 * 1024;
/// Frames taken from one end before the others have their turn.
const BURST: usize = 64;
/// Longest frame of a TAP or NIC, with room to spare.
pub(super) const FRAME_BYTES_MAX: usize = 65_536;

/// What carries frames into and out of a line.
#[derive(Debug)]
pub enum Port {
    /// A TAP device; a frame per read and write.
    Tap(File),
    /// A NIC of QEMU (`-netdev stream`): each frame behind its length in four bytes, big endian.
    Nic(UnixStream),
}

/// An end, as the thread holds it.
pub(super) struct Endpoint {
    port: Port,
    /// Of a NIC: bytes that are not yet a whole frame.
    received: Vec<u8>,
    /// Of a NIC: bytes that it has not taken yet.
    held: Vec<u8>,
    open: bool,
}

impl Endpoint {
    pub(super) fn new(port: Port) -> io::Result<Self> {
        if let Port::Nic(stream) = &port {
            stream.set_nonblocking(true)?;
        }
        Ok(Self {
            port,
            received: Vec::new(),
            held: Vec::new(),
            open: true,
        })
    }

    /// Whether bytes wait for the NIC to take them.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the end is still there.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match &self.port {
            Port::Tap(file) => file.as_fd(),
            Port::Nic(stream) => stream.as_fd(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.held.len() < HELD_BYTES
    }

    /// Gives a frame to the end; `false` if it is gone.
    pub(super) fn send(&mut self, frame: &[u8]) -> bool {
        match &mut self.port {
            // A TAP takes a frame at once or not at all: the device is down.
            Port::Tap(file) => matches!(file.write(frame), Ok(count) if count == frame.len()),
            Port::Nic(_) => {
                if self.open {
                    self.held
                        .extend_from_slice(&(frame.len() as u32).to_be_bytes());
                    self.held.extend_from_slice(frame);
                }
                self.open
            }
        }
    }

    /// Passes on what a NIC takes now.
    pub(super) fn flush(&mut self) {
        let Port::Nic(stream) = &mut self.port else {
            return;
        };
        let mut sent = 0;
        while sent < self.held.len() {
            match stream.write(&self.held[sent..]) {
                Ok(count) if count > 0 => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.open = false;
                    self.held.clear();
                    return;
                }
            }
        }
        self.held.drain(..sent);
    }

    /// Calls `each` with what has come, at most [`BURST`] frames or one buffer of a NIC.
    pub(super) fn receive(&mut self, buffer: &mut [u8], mut each: impl FnMut(&[u8])) {
        match &mut self.port {
            Port::Tap(file) => {
                for _ in 0..BURST {
                    match file.read(buffer) {
                        Ok(count) if count > 0 => each(&buffer[..count]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Ok(_) | Err(_) => {
                            self.open = false;
                            return;
                        }
                    }
                }
            }
            Port::Nic(stream) => match stream.read(buffer) {
                Ok(count) if count > 0 => {
                    self.received.extend_from_slice(&buffer[..count]);
                    self.open = split_frames(&mut self.received, each);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Ok(_) | Err(_) => self.open = false,
            },
        }
    }
}

/// Takes whole frames off the front of a NIC's bytes; `false` if they cannot be frames.
fn split_frames(received: &mut Vec<u8>, mut each: impl FnMut(&[u8])) -> bool {
    let mut at = 0;
    while let Some((header, rest)) = received[at..].split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*header) as usize;
        if length > FRAME_BYTES_MAX {
            return false;
        }
        let Some(frame) = rest.get(..length) else {
            break;
        };
        each(frame);
        at += 4 + length;
    }
    received.drain(..at);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(frame: &[u8]) -> Vec<u8> {
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        bytes
    }

    #[test]
    fn frames_are_whole_wherever_the_stream_is_cut() {
        let stream = [framed(b"first"), framed(b""), framed(b"second frame")].concat();
        for cut in 0..=stream.len() {
            let (mut received, mut frames) = (Vec::new(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                received.extend_from_slice(part);
                assert!(split_frames(&mut received, |frame| frames.push(frame.to_vec())));
            }
            assert_eq!(
                frames,
                [b"first".to_vec(), b"".to_vec(), b"second frame".to_vec()]
            );
            assert!(received.is_empty());
        }
    }

    #[test]
    fn a_length_that_no_frame_has_ends_the_stream() {
        let mut received = u32::MAX.to_be_bytes().to_vec();
        assert!(!split_frames(&mut received, |_| panic!("no frame here")));
    }
}
