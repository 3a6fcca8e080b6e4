//! Images of sandboxes, clones and templates.

use super::process::stdio;
use super::{drupe_process, drupe_sandbox, guard, null, of_running, running, text};
use crate::sandbox::{Error, Image, SaveOptions, Streams, Templates};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::BorrowedFd;

/// The image of a sandbox, of which any number of sandboxes can be made.
pub struct drupe_image {
    image: Image,
}

/// How an image is written: see `drupe_sandbox_save`. All zeros and nulls is a plain image.
#[repr(C)]
pub struct drupe_save_options {
    /// Compresses it (zstd). Such an image takes less room, and longer to restore: it is unpacked into memory then.
    pub compress: bool,
    /// An image of an earlier instant, or null: only what is not in that is written. It must stay where it is.
    pub parent: *const c_char,
    /// Programs that were started after the first one and have streams of the caller's find these at their ends in the
    /// restored sandbox (input is empty, output goes nowhere); without it they are in the way of a save.
    pub detach: bool,
}

/// How a sandbox is restored. See `drupe_restore_defaults`.
#[repr(C)]
pub struct drupe_restore_options {
    /// The name by which others reach it, or null.
    pub name: *const c_char,
    /// Files that are only read may have been changed.
    pub allow_changed: bool,
    /// The first program's: a descriptor of the caller, `DRUPE_STDIO_INHERIT`, `DRUPE_STDIO_NULL` or `DRUPE_STDIO_CLOSED`.
    pub stdin_fd: c_int,
    /// As `stdin_fd`.
    pub stdout_fd: c_int,
    /// As `stdin_fd`.
    pub stderr_fd: c_int,
}

/// # Safety
/// `options` is null or valid, its strings too.
unsafe fn save_options(options: *const drupe_save_options) -> Result<SaveOptions, Error> {
    // SAFETY: by the caller's promise.
    let Some(options) = (unsafe { options.as_ref() }) else { return Ok(SaveOptions::default()) };
    let mut out = SaveOptions { compress: options.compress, detach: options.detach, ..SaveOptions::default() };
    if !options.parent.is_null() {
        // SAFETY: by the caller's promise.
        out.parent = Some(unsafe { text(options.parent, "the parent") }?.into());
    }
    Ok(out)
}

/// Writes an image of a running sandbox to the file `path`, which is there once it is whole. The sandbox stands still for a part
/// of that time only. `options` may be null. How many bytes the image has.
///
/// # Safety
/// `sandbox` is a live handle; `path` is a string; `options` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_save(
    sandbox: *const drupe_sandbox,
    path: *const c_char,
    options: *const drupe_save_options,
) -> i64 {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe {
        let sandbox = running(sandbox)?;
        sandbox.save_to_file_with(text(path, "the path")?, &save_options(options)?).map(|bytes| bytes as i64)
    })
}

/// Writes an image of a paused sandbox to a descriptor, from start to end: it may be a pipe. The sandbox is paused afterwards, too.
/// What is written is no image if this fails. How many bytes it has.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_save_fd(sandbox: *const drupe_sandbox, fd: c_int) -> i64 {
    guard(-1, || {
        // SAFETY: by the caller's promise.
        let sandbox = unsafe { running(sandbox) }?;
        sandbox.save_to(file_of(fd)?).map(|bytes| bytes as i64)
    })
}

/// A file over a copy of the descriptor.
fn file_of(fd: c_int) -> Result<File, Error> {
    if fd < 0 {
        return Err(Error::Setting(format!("not a descriptor: {fd}")));
    }
    // SAFETY: only borrowed to be copied; the caller keeps it open during this call.
    let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
    copy.map(File::from).map_err(|e| Error::host(format!("use descriptor {fd}"), e))
}

/// Why the sandbox ended while it was saved; null where it did not. The text is valid until the handle is freed.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_save_error(sandbox: *const drupe_sandbox) -> *const c_char {
    // SAFETY: by the caller's promise.
    let Some(handle) = (unsafe { sandbox.as_ref() }) else { return std::ptr::null() };
    // SAFETY: as above.
    let Some(why) = (unsafe { running(sandbox) }).ok().and_then(|running| running.save_error()) else {
        return std::ptr::null();
    };
    let text = || CString::new(why.replace('\0', " ")).unwrap_or_default();
    handle.save_error.get_or_init(text).as_ptr()
}

/// Opens an image; null if there is none that fits. The file may be removed afterwards, but must not be written to while sandboxes
/// of it run.
///
/// # Safety
/// `path` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_image_open(path: *const c_char) -> *mut drupe_image {
    // SAFETY: by the caller's promise.
    guard(std::ptr::null_mut(), || Ok(boxed(Image::open(unsafe { text(path, "the path") }?)?)))
}

/// Reads an image from a descriptor, which may be a pipe.
#[unsafe(no_mangle)]
pub extern "C" fn drupe_image_read(fd: c_int) -> *mut drupe_image {
    guard(std::ptr::null_mut(), || Ok(boxed(Image::read(file_of(fd)?)?)))
}

/// An image of a running sandbox, in memory. The sandbox goes on.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_image(sandbox: *const drupe_sandbox) -> *mut drupe_image {
    // SAFETY: by the caller's promise.
    guard(std::ptr::null_mut(), || Ok(boxed(unsafe { running(sandbox) }?.image()?)))
}

fn boxed(image: Image) -> *mut drupe_image {
    Box::into_raw(Box::new(drupe_image { image }))
}

/// Fills in the defaults: the caller's streams, no name.
///
/// # Safety
/// `options` is null or points to writable memory of that type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_restore_defaults(options: *mut drupe_restore_options) {
    if options.is_null() {
        return;
    }
    let inherit = super::process::DRUPE_STDIO_INHERIT;
    // SAFETY: by the caller's promise.
    unsafe {
        options.write(drupe_restore_options {
            name: std::ptr::null(),
            allow_changed: false,
            stdin_fd: inherit,
            stdout_fd: inherit,
            stderr_fd: inherit,
        });
    }
}

/// Makes the sandbox of an image, which goes on where it was saved; null if that is not possible. `options` may be null. `first` is
/// null or gets a handle of its first program.
///
/// # Safety
/// `image` is a live handle; `options` and `first` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_image_restore(
    image: *const drupe_image,
    options: *const drupe_restore_options,
    first: *mut *mut drupe_process,
) -> *mut drupe_sandbox {
    guard(std::ptr::null_mut(), || {
        // SAFETY: by the caller's promise.
        let image = unsafe { image.as_ref() }.ok_or_else(|| null("the image"))?;
        // SAFETY: as above.
        unsafe { restored(&image.image, options, first) }
    })
}

/// Makes a second sandbox of a running one; both go on from the same instant. Otherwise as `drupe_image_restore`.
///
/// # Safety
/// `sandbox` is a live handle; `options` and `first` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_clone(
    sandbox: *const drupe_sandbox,
    options: *const drupe_restore_options,
    first: *mut *mut drupe_process,
) -> *mut drupe_sandbox {
    // SAFETY: by the caller's promise.
    guard(std::ptr::null_mut(), || unsafe { restored(&running(sandbox)?.image()?, options, first) })
}

/// # Safety
/// `options` and `first` are null or valid.
unsafe fn restored(
    image: &Image,
    options: *const drupe_restore_options,
    first: *mut *mut drupe_process,
) -> Result<*mut drupe_sandbox, Error> {
    let (mut streams, mut name, mut allow_changed) = (Streams::default(), None, false);
    // SAFETY: by the caller's promise.
    if let Some(options) = unsafe { options.as_ref() } {
        allow_changed = options.allow_changed;
        streams.stdin = stdio(options.stdin_fd)?;
        streams.stdout = stdio(options.stdout_fd)?;
        streams.stderr = stdio(options.stderr_fd)?;
        if !options.name.is_null() {
            // SAFETY: as above.
            name = Some(unsafe { text(options.name, "the name") }?.to_string_lossy().into_owned());
        }
    }
    let (sandbox, child) = image.restore(&streams, allow_changed, |b| match name {
        Some(name) => b.name(name),
        None => b,
    })?;
    if !first.is_null() {
        // SAFETY: as above.
        unsafe { first.write(Box::into_raw(Box::new(drupe_process { child }))) };
    }
    Ok(of_running(sandbox))
}

/// Frees the handle; sandboxes of the image go on. Null is ignored.
///
/// # Safety
/// `image` is null or a live handle, not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_image_free(image: *mut drupe_image) {
    if !image.is_null() {
        // SAFETY: by the caller's promise it came from one of the functions above and is not used again.
        drop(unsafe { Box::from_raw(image) });
    }
}

/// Keeps an image of a running sandbox, which goes on, under a name (as `drupe template create`).
///
/// # Safety
/// `sandbox` is a live handle; `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_template_create(name: *const c_char, sandbox: *const drupe_sandbox) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe {
        let (name, sandbox) = (text(name, "the name")?.to_string_lossy(), running(sandbox)?);
        sandbox.save_to_file(Templates::own()?.path(&name)?).map(|_| 0)
    })
}

/// The image of a template.
///
/// # Safety
/// `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_template_open(name: *const c_char) -> *mut drupe_image {
    // SAFETY: by the caller's promise.
    guard(std::ptr::null_mut(), || unsafe {
        Ok(boxed(Templates::own()?.open(&text(name, "the name")?.to_string_lossy())?))
    })
}

/// Calls `each` with the name of every template and the length of its image, until it returns other than 0 or all were told.
/// What it returned last, 0 without templates.
///
/// # Safety
/// `each` may be called with `arg`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_template_list(
    each: Option<unsafe extern "C" fn(arg: *mut c_void, name: *const c_char, bytes: u64) -> c_int>,
    arg: *mut c_void,
) -> c_int {
    guard(-1, || {
        let each = each.ok_or_else(|| null("the function"))?;
        for template in Templates::own()?.list()? {
            let name = CString::new(template.name).unwrap_or_default();
            // SAFETY: by the caller's promise.
            match unsafe { each(arg, CStr::as_ptr(&name), template.bytes) } {
                0 => {}
                other => return Ok(other),
            }
        }
        Ok(0)
    })
}

/// Removes a template. Sandboxes that were made of it go on.
///
/// # Safety
/// `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_template_remove(name: *const c_char) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { Templates::own()?.remove(&text(name, "the name")?.to_string_lossy()).map(|()| 0) })
}
