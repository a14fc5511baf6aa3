//! Starts QEMU and joins its NICs and serial lines to the lab.
