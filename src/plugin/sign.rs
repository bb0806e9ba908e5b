//! Signatures of zips, in the form of minisign (Ed25519), so that its keys and its program do too.
//!
//! A signed zip holds `signature.minisig`, which signs a text: a line for each other file, as `sha256sum` prints it. A
//! server with trusted keys installs what one of them has signed, and nothing else.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use blake2::{Blake2b256, Blake2b512, Digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// The entry of a zip that holds its signature.
pub const ENTRY: &str = "signature.minisig";

/// Names of algorithms: keys, signatures of the text itself, and of its BLAKE2b digest.
const KEY: &[u8; 2] = b"Ed";
const PLAIN: &[u8; 2] = b"Ed";
const HASHED: &[u8; 2] = b"ED";

/// A public key that is trusted.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: [u8; 8],
    key: [u8; 32],
}

/// A key pair, for signing.
pub struct SecretKey {
    id: [u8; 8],
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl PublicKey {
    /// Reads a key as minisign shows it, `RWQ…`, or the file of one; the error is a sentence.
    pub fn read(text: &str) -> Result<PublicKey, String> {
        let line = last_line(text);
        let shown: String = line.chars().take(60).collect();
        let wrong = || format!("`{}` is no public key; it is a line that begins with `RW`", shown.escape_debug());
        let bytes = BASE64.decode(line).map_err(|_| wrong())?;
        match bytes.strip_prefix(KEY).and_then(|rest| rest.split_at_checked(8)) {
            Some((id, key)) if key.len() == 32 => {
                let (mut read, mut of) = ([0; 32], [0; 8]);
                read.copy_from_slice(key);
                of.copy_from_slice(id);
                Ok(PublicKey { id: of, key: read })
            }
            _ => Err(wrong()),
        }
    }

    /// The file of the key.
    pub fn file(&self) -> String {
        format!("untrusted comment: minisign public key {}\n{self}\n", shown(self.id))
    }

    /// Whether a signature is by this key and signs this text. `None` where it is by another.
    fn signed(&self, signature: &Signature, text: &[u8]) -> Option<Result<(), String>> {
        if signature.id != self.id {
            return None;
        }
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        let digest;
        let message = if signature.hashed {
            digest = Blake2b512::digest(text);
            &digest[..]
        } else {
            text
        };
        let whole = [&signature.bytes[..], signature.comment.as_bytes()].concat();
        let holds = key.verify(message, &signature.bytes).and_then(|()| key.verify(&whole, &signature.global));
        Some(holds.map_err(|_| "the signature does not fit the files of the zip".to_owned()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&BASE64.encode([&KEY[..], &self.id, &self.key].concat()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl SecretKey {
    /// A new key pair; the error is a sentence.
    pub fn new() -> Result<SecretKey, String> {
        let (mut seed, mut id) = ([0; 32], [0; 8]);
        let random = SystemRandom::new();
        let made = random.fill(&mut seed).and_then(|()| random.fill(&mut id));
        made.map_err(|_| "this machine gives no random numbers".to_owned())?;
        SecretKey::from_seed(id, seed)
    }

    fn from_seed(id: [u8; 8], seed: [u8; 32]) -> Result<SecretKey, String> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| "the key is damaged".to_owned())?;
        Ok(SecretKey { id, seed, pair })
    }

    /// Reads the file of a secret key without a password; the error is a sentence.
    pub fn read(text: &str) -> Result<SecretKey, String> {
        let wrong = || "it is no secret key; make one with `kuiper plugin keys`".to_owned();
        let bytes = BASE64.decode(last_line(text)).map_err(|_| wrong())?;
        // Algorithms, what a password would be stretched with, the number of the key, the key, its checksum.
        if bytes.len() != 158 || !bytes.starts_with(KEY) {
            return Err(wrong());
        }
        if bytes[2..4] != [0, 0] {
            return Err("it has a password; make one without, with `kuiper plugin keys` or `minisign -G -W`".to_owned());
        }
        let (mut id, mut seed) = ([0; 8], [0; 32]);
        id.copy_from_slice(&bytes[54..62]);
        seed.copy_from_slice(&bytes[62..94]);
        let key = SecretKey::from_seed(id, seed)?;
        match key.pair.public_key().as_ref() == &bytes[94..126] {
            true => Ok(key),
            false => Err("it is a damaged key".to_owned()),
        }
    }

    /// The file of the key.
    pub fn file(&self) -> String {
        let key = [&self.seed[..], self.pair.public_key().as_ref()].concat();
        let sum = Blake2b256::digest([&KEY[..], &self.id, &key].concat());
        // No password: nothing is stretched.
        let bytes = [&KEY[..], &[0, 0], b"B2", &[0; 48], &self.id, &key, &sum].concat();
        format!("untrusted comment: minisign encrypted secret key\n{}\n", BASE64.encode(bytes))
    }

    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey { id: self.id, key }
    }

    /// The file of a signature of a text. `comment` is signed too.
    pub fn sign(&self, text: &[u8], comment: &str) -> String {
        let signature = self.pair.sign(&Blake2b512::digest(text));
        let global = self.pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let bytes = [&HASHED[..], &self.id, signature.as_ref()].concat();
        format!(
            "untrusted comment: signature by kuiper plugin\n{}\ntrusted comment: {comment}\n{}\n",
            BASE64.encode(bytes),
            BASE64.encode(global.as_ref())
        )
    }
}

/// What the file of a signature says.
struct Signature {
    hashed: bool,
    id: [u8; 8],
    bytes: [u8; 64],
    comment: String,
    global: [u8; 64],
}

impl Signature {
    fn read(text: &str) -> Option<Signature> {
        let lines: Vec<&str> = text.lines().collect();
        let [_, signature, comment, global] = lines[..] else { return None };
        let signature = BASE64.decode(signature).ok()?;
        let global: [u8; 64] = BASE64.decode(global).ok()?.try_into().ok()?;
        let comment = comment.strip_prefix("trusted comment: ")?.to_owned();
        let hashed = match signature.get(..2)? {
            algorithm if algorithm == HASHED.as_slice() => true,
            algorithm if algorithm == PLAIN.as_slice() => false,
            _ => return None,
        };
        let id = signature.get(2..10)?.try_into().ok()?;
        Some(Signature { hashed, id, bytes: signature.get(10..)?.try_into().ok()?, comment, global })
    }
}

/// Who wants a signature, for sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// A server with trusted keys.
    Server,
    /// A command with `--key`.
    Command,
}

/// Checks that one of the keys has signed the text, and returns the number of that key; the error is a sentence.
pub fn check(signature: Option<&[u8]>, text: &str, trusted: &[PublicKey], asking: Asking) -> Result<String, String> {
    let Some(signature) = signature else {
        let only = match asking {
            Asking::Server => "this server installs only what one of its `plugins.trustedKeys` has signed",
            Asking::Command => "`--key` asks for a signature",
        };
        return Err(format!("the zip is not signed, and {only}; pack it with `kuiper plugin pack --sign KEY`"));
    };
    let signature = read(signature)?;
    let told = trusted.iter().find_map(|key| key.signed(&signature, text.as_bytes()));
    told.unwrap_or_else(|| {
        let none = match asking {
            Asking::Server => "is none of `plugins.trustedKeys`",
            Asking::Command => "`--key` does not name",
        };
        Err(format!("the zip is signed by the key {}, which {none}", shown(signature.id)))
    })?;
    Ok(shown(signature.id))
}

/// The number of the key that a signature says it is by, which nobody has verified; the error is a sentence.
pub fn claimed(signature: &[u8]) -> Result<String, String> {
    read(signature).map(|signature| shown(signature.id))
}

fn read(signature: &[u8]) -> Result<Signature, String> {
    let signature = std::str::from_utf8(signature).ok().and_then(Signature::read);
    signature.ok_or_else(|| format!("`{ENTRY}` is no signature"))
}

/// The number of a key as minisign shows it.
fn shown(id: [u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(id))
}

/// The line of a file that holds the key; a comment may stand before.
fn last_line(text: &str) -> &str {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written() {
        let key = SecretKey::new().unwrap();
        let again = SecretKey::read(&key.file()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(PublicKey::read(&key.public().file()).unwrap(), key.public());
        let line = key.public().to_string();
        assert_eq!((PublicKey::read(&line).unwrap(), &line[..2], line.len()), (key.public(), "RW", 56));
        assert!(SecretKey::read(&line).is_err() && PublicKey::read(&key.file()).is_err());
        for text in ["", "x", "RWQ", "untrusted comment: nothing\n"] {
            assert!(PublicKey::read(text).unwrap_err().contains("is no public key"), "{text}");
        }
    }

    #[test]
    fn only_what_a_trusted_key_has_signed_is_taken() {
        let (one, two) = (SecretKey::new().unwrap(), SecretKey::new().unwrap());
        let signature = one.sign(b"text", "of today");
        let told = |signature: Option<&str>, text: &str, keys: &[&SecretKey]| {
            let keys: Vec<PublicKey> = keys.iter().map(|key| key.public()).collect();
            check(signature.map(str::as_bytes), text, &keys, Asking::Server)
        };
        assert_eq!(told(Some(&signature), "text", &[&two, &one]), claimed(signature.as_bytes()));
        assert!(one.public().file().contains(&claimed(signature.as_bytes()).unwrap()));
        let wrong = Err("the signature does not fit the files of the zip".to_owned());
        assert_eq!(told(Some(&signature), "texts", &[&one]), wrong);
        assert_eq!(told(Some(&signature.replace("of today", "of yesterday")), "text", &[&one]), wrong);
        assert!(told(Some(&signature), "text", &[&two]).unwrap_err().contains("none of `plugins.trustedKeys`"));
        assert!(told(None, "text", &[&one]).unwrap_err().starts_with("the zip is not signed, "));
        for text in ["", "a\nb\nc\nd", "a\nRWQ=\ntrusted comment: x\nRWQ=\n"] {
            assert_eq!(told(Some(text), "text", &[&one]), Err("`signature.minisig` is no signature".into()));
        }
    }
}
