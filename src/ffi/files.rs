//! Files of a sandbox.

use super::{drupe_sandbox, guard, null, running, text};
use crate::sandbox::Error;
use std::ffi::{c_char, c_int};

/// Reads a whole file of the sandbox. `*data` is to be freed with `drupe_free`.
///
/// # Safety
/// `sandbox` is a live handle, `path` a string, `data` and `len` point to writable memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_read_file(
    sandbox: *const drupe_sandbox,
    path: *const c_char,
    data: *mut *mut u8,
    len: *mut usize,
) -> c_int {
    guard(-1, || {
        if data.is_null() || len.is_null() {
            return Err(null("data or len"));
        }
        // SAFETY: by the caller's promise.
        let bytes = unsafe { running(sandbox)?.read_file(text(path, "the path")?)? };
        // SAFETY: by the caller's promise; the allocation is never zero bytes long.
        unsafe {
            let copy = libc::malloc(bytes.len().max(1)).cast::<u8>();
            if copy.is_null() {
                return Err(Error::host("allocate memory", std::io::Error::from_raw_os_error(libc::ENOMEM)));
            }
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
            data.write(copy);
            len.write(bytes.len());
        }
        Ok(0)
    })
}

/// Creates or replaces a file of the sandbox.
///
/// # Safety
/// `sandbox` is a live handle, `path` a string, `data` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_write_file(
    sandbox: *const drupe_sandbox,
    path: *const c_char,
    data: *const u8,
    len: usize,
) -> c_int {
    guard(-1, || {
        if data.is_null() && len > 0 {
            return Err(null("data"));
        }
        // SAFETY: by the caller's promise.
        let bytes = if len == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(data, len) } };
        // SAFETY: by the caller's promise.
        unsafe { running(sandbox)?.write_file(text(path, "the path")?, bytes) }.map(|()| 0)
    })
}

/// Frees what `drupe_sandbox_read_file` gave.
///
/// # Safety
/// `data` is null or came from there, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_free(data: *mut u8) {
    // SAFETY: by the caller's promise.
    unsafe { libc::free(data.cast()) };
}
