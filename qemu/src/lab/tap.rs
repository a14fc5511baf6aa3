//! A TAP device in the network namespace of the calling process.
//!
//! Follows: Linux, Documentation/networking/tuntap.rst. Without `IFF_VNET_HDR` the kernel completes checksums and
//! cuts large segments before a frame reaches us, so what a line carries is what a wire would.

use anyhow::{Context, Result};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

nix::ioctl_write_ptr_bad!(
    /// Makes a TUN file a device.
    tun_set_interface,
    libc::TUNSETIFF,
    libc::ifreq
);

/// Creates the TAP device `name`, which lives as long as the file. One read or write is one frame; neither blocks.
///
/// # Errors
/// No `/dev/net/tun` or no right to use it.
pub fn open(name: &str) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("cannot open /dev/net/tun; load the module with `modprobe tun`, or run as root")?;
    // SAFETY: ifreq is plain data for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .take(libc::IFNAMSIZ - 1)
        .zip(name.bytes())
    {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is a TUN file, and `request` outlives the call.
    unsafe { tun_set_interface(file.as_raw_fd(), &raw const request) }
        .with_context(|| format!("cannot create the device {name}"))?;
    Ok(file)
}
