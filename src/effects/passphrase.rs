//! Passphrases from files, descriptors and the terminal on stdin.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use zeroize::Zeroizing;

use crate::ports::{PassphraseError, PassphraseSource, PassphraseUse, Passphrases};

/// The most bytes of one passphrase.
const MAX_BYTES: usize = 1024;

/// Reads passphrases where the user keeps them; asks only on a terminal that is stdin.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserPassphrases;

impl Passphrases for UserPassphrases {
    fn read(
        &self,
        source: &PassphraseSource,
        what: &str,
        wanted: PassphraseUse,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, PassphraseError> {
        match source {
            PassphraseSource::File(path) => {
                let origin = format!("`{}`", path.display());
                from_reader(File::open(path), origin).map(Some)
            }
            PassphraseSource::Descriptor(0) => {
                from_reader(Ok(io::stdin()), "stdin".to_owned()).map(Some)
            }
            // Opened anew by its name, because a borrowed descriptor cannot be read safely.
            PassphraseSource::Descriptor(n) => from_reader(
                File::open(format!("/dev/fd/{n}")),
                format!("file descriptor {n}"),
            )
            .map(Some),
            PassphraseSource::Ask if io::stdin().is_terminal() => ask(what, wanted).map(Some),
            PassphraseSource::Ask => Ok(None),
        }
    }
}

fn from_reader(
    reader: io::Result<impl Read>,
    origin: String,
) -> Result<Zeroizing<Vec<u8>>, PassphraseError> {
    // Never grown, so that no copy is left behind in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX_BYTES));
    let read = reader.and_then(|reader| reader.take(MAX_BYTES as u64 + 3).read_to_end(&mut bytes));
    if let Err(source) = read {
        return Err(PassphraseError::Read { origin, source });
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    checked(bytes, origin)
}

fn checked(
    bytes: Zeroizing<Vec<u8>>,
    origin: String,
) -> Result<Zeroizing<Vec<u8>>, PassphraseError> {
    if bytes.is_empty() {
        Err(PassphraseError::Empty(origin))
    } else if bytes.len() > MAX_BYTES {
        Err(PassphraseError::Long(origin))
    } else if bytes.contains(&b'\n') {
        // OpenSSL's `file:` would take the first line alone: another passphrase than ours.
        Err(PassphraseError::Lines(origin))
    } else {
        Ok(bytes)
    }
}

fn ask(what: &str, wanted: PassphraseUse) -> Result<Zeroizing<Vec<u8>>, PassphraseError> {
    let failed = |source| PassphraseError::Read {
        origin: "the terminal".to_owned(),
        source,
    };
    let silence = Silence::begin().map_err(failed)?;
    let prompt = match wanted {
        PassphraseUse::Pin => format!("PIN of {what}: "),
        PassphraseUse::Open | PassphraseUse::Protect => format!("Passphrase for {what}: "),
    };
    let typed = prompt_line(&prompt).map_err(failed)?;
    let typed = typed.ok_or(PassphraseError::Interrupted)?;
    if wanted == PassphraseUse::Protect {
        let again = prompt_line("The same again: ").map_err(failed)?;
        if again.ok_or(PassphraseError::Interrupted)? != typed {
            return Err(PassphraseError::Differ);
        }
    }
    drop(silence);
    checked(typed, "the terminal".to_owned())
}

/// Shows `prompt` on stderr and reads one line without showing it; `None` when the person gave up.
fn prompt_line(prompt: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    write!(io::stderr(), "{prompt}")?;
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    let mut byte = [0_u8];
    let complete = loop {
        if rustix::io::read(io::stdin(), &mut byte)? == 0 {
            break false;
        }
        match byte[0] {
            b'\r' | b'\n' => break true,
            // Ctrl-C, and Ctrl-D: as bytes, because the terminal's own signals are off.
            0x03 | 0x04 => break false,
            // Backspace takes back a whole character.
            0x08 | 0x7f => while line.pop().is_some_and(|b| b & 0xc0 == 0x80) {},
            // Ctrl-U takes back everything.
            0x15 => line.clear(),
            other if line.len() <= MAX_BYTES => line.push(other),
            _ => {}
        }
    };
    writeln!(io::stderr())?;
    Ok(complete.then_some(line))
}

/// The terminal on stdin without echo, lines or signals; as it was before, once dropped. Signals
/// are off so that Ctrl-C cannot end the process while the terminal is silent.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_closing_newline_is_not_part_of_it() {
        for (text, expected) in [
            ("secret", Ok("secret")),
            ("secret\n", Ok("secret")),
            ("secret\r\n", Ok("secret")),
            (" spaced ", Ok(" spaced ")),
            ("", Err("passphrase.empty")),
            ("\n", Err("passphrase.empty")),
            ("secret\n\n", Err("passphrase.lines")),
            ("two\nlines\n", Err("passphrase.lines")),
            (&"x".repeat(1025), Err("passphrase.long")),
        ] {
            let read = from_reader(Ok(text.as_bytes()), "here".to_owned());
            let read = read
                .as_ref()
                .map(|bytes| std::str::from_utf8(bytes).unwrap())
                .map_err(crate::explain::Explain::code);
            assert_eq!(read, expected, "{text:?}");
        }
    }
}
