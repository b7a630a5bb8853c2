//! Who may read the key and who may change any of it; and which of that is certainly wrong.

use std::path::PathBuf;

use super::Check;
use super::facts::{FileFacts, IdentityFacts, ServerFacts};

/// All that others and the group may do.
const OTHERS: u32 = 0o077;
/// Everybody's and the group's write permission.
const OTHERS_WRITE: u32 = 0o022;
/// A folder where each may remove only what is his.
const STICKY: u32 = 0o1000;

/// One mode that is wrong beyond doubt, and what it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The file or folder.
    pub path: PathBuf,
    /// Its permission bits.
    pub from: u32,
    /// What they should be.
    pub to: u32,
}

/// What `--fix` may set right: permissions of others, which no key or list of CAs ever needs, and
/// those of the group when it is the reader's own. A group of its own may be the one that a service
/// reads the key with, and an owner cannot be guessed: those are left to a person.
pub fn mends(identity: &IdentityFacts, server_ca: Option<&FileFacts>) -> Vec<Change> {
    let key = identity.key.access.iter().map(|file| (file, OTHERS));
    let folder = identity.key.folder.iter().filter(|folder| !sticky(folder));
    let files = certificate_files(identity).chain(server_ca);
    let mut changes: Vec<Change> = key
        .chain(folder.chain(files).map(|file| (file, OTHERS_WRITE)))
        .filter_map(|(file, unwanted)| mend(file, unwanted))
        .collect();
    changes.dedup_by(|a, b| a.path == b.path);
    changes
}

fn mend(file: &FileFacts, unwanted: u32) -> Option<Change> {
    let (user, group) = file.seen_by;
    let from = mode(file)?;
    let ours = if file.gid == group { 0o077 } else { 0o007 };
    let wrong = from & unwanted & ours;
    let may = user == 0 || user == file.uid;
    (wrong != 0 && may && !file.link).then(|| Change {
        path: file.path.clone().into(),
        from,
        to: from & !wrong,
    })
}

fn mode(file: &FileFacts) -> Option<u32> {
    u32::from_str_radix(&file.mode, 8).ok()
}

fn sticky(folder: &FileFacts) -> bool {
    mode(folder).is_some_and(|mode| mode & STICKY != 0)
}

fn certificate_files(identity: &IdentityFacts) -> impl Iterator<Item = &FileFacts> {
    let certificate = identity.certificate.access.as_ref();
    let chain = identity
        .chain
        .as_ref()
        .and_then(|file| file.access.as_ref());
    let ca = identity.ca.as_ref().and_then(|file| file.access.as_ref());
    certificate.into_iter().chain(chain).chain(ca)
}

pub(super) fn judge(identity: &IdentityFacts) -> Vec<Check> {
    let mut checks = vec![check_key_mode(identity)];
    checks.extend(identity.key.access.as_ref().map(check_owner));
    checks.extend(identity.key.folder.as_ref().map(check_folder));
    let mut files: Vec<&FileFacts> = certificate_files(identity).collect();
    files.dedup_by(|a, b| a.path == b.path);
    checks.extend(check_writable("identity.file-mode", &files));
    checks
}

/// The list of CAs that vouch for the server: who can change it can be any server.
pub(super) fn judge_server_ca(server: &ServerFacts) -> Option<Check> {
    let file = server.server_ca.as_ref()?.access.as_ref()?;
    check_writable("server.ca-mode", &[file])
}

fn check_key_mode(identity: &IdentityFacts) -> Check {
    const ID: &str = "identity.key-mode";
    let key = &identity.key;
    let Some(text) = &key.mode else {
        if key.path.starts_with("pkcs11:") {
            return Check::pass(ID, "the key is in a token, which does not give it away");
        }
        return Check::skip(ID, "the key file's mode is not known");
    };
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & OTHERS == 0 => {
            Check::pass(ID, format!("only its owner can read the key (mode {text})"))
        }
        _ => Check::fail(
            ID,
            format!("others can read the key: `{}` has mode {text}", key.path),
        )
        .remedy(format!("chmod 600 {}, or run this with --fix", key.path)),
    }
}

fn check_owner(file: &FileFacts) -> Check {
    const ID: &str = "identity.key-owner";
    let (user, _) = file.seen_by;
    if file.uid == user {
        return Check::pass(ID, format!("the key belongs to this user (uid {user})"));
    }
    let fact = format!(
        "the key belongs to uid {}, and this runs as uid {user}",
        file.uid
    );
    let check = Check::warn(ID, fact);
    if user == 0 {
        // Root reads everything: whether the program that connects can is not seen from here.
        return check.remedy("run preflight as the user that will connect");
    }
    check.remedy(format!("chown {user} {}", file.path))
}

fn check_folder(folder: &FileFacts) -> Check {
    const ID: &str = "identity.folder-mode";
    let (path, text) = (&folder.path, &folder.mode);
    match mode(folder) {
        Some(mode) if mode & OTHERS_WRITE == 0 => Check::pass(
            ID,
            format!("only its owner can change the key's folder (mode {text})"),
        ),
        Some(_) if sticky(folder) => Check::warn(
            ID,
            format!("anybody can write beside the key: `{path}` has mode {text}"),
        )
        .remedy("keep the identity in a folder of its own, of mode 0700"),
        _ => Check::fail(
            ID,
            format!("others can put another key in its place: the folder `{path}` has mode {text}"),
        )
        .remedy(format!("chmod go-w {path}, or run this with --fix")),
    }
}

fn check_writable(id: &'static str, files: &[&FileFacts]) -> Option<Check> {
    let open = |file: &&&FileFacts| mode(file).is_none_or(|mode| mode & OTHERS_WRITE != 0);
    let Some(file) = files.iter().find(open) else {
        let all = files.first()?;
        let rest = match files.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let fact = format!("only its owner can change `{}`{rest}", all.path);
        return Some(Check::pass(id, fact));
    };
    let fact = format!("others can change `{}` (mode {})", file.path, file.mode);
    let remedy = format!("chmod go-w {}, or run this with --fix", file.path);
    Some(Check::fail(id, fact).remedy(remedy))
}
