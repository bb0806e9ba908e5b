//! Where the part of a file ends that was written whole, when a crash cut off what came behind it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

const BLOCK: u64 = 64 << 10;

/// The end of the last line that has its newline. With `quoted`, a newline between quotes ends no line.
pub(super) fn whole_lines(file: &mut File, quoted: bool) -> io::Result<u64> {
    if quoted { whole_records(file) } else { last_newline(file) }
}

fn last_newline(file: &mut File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn whole_records(file: &mut File) -> io::Result<u64> {
    let (mut quotes, mut end) = (false, 0);
    each_block(file, |start, block| {
        for at in memchr::memchr2_iter(b'"', b'\n', block) {
            match block[at] {
                // Two quotes within a value change nothing.
                b'"' => quotes = !quotes,
                _ if !quotes => end = start + at as u64 + 1,
                _ => {}
            }
        }
        true
    })?;
    Ok(end)
}

/// The end of the last element of a JSON array that is followed by a comma or a bracket: 0 when there is none, and
/// nothing when the file holds no array.
pub(super) fn whole_elements(file: &mut File) -> io::Result<Option<u64>> {
    let (mut depth, mut text, mut escaped) = (0_usize, false, false);
    // Whether something stands since the last comma or bracket of the outermost array.
    let (mut element, mut end, mut array) = (false, 0, true);
    each_block(file, |start, block| {
        for (at, byte) in block.iter().enumerate() {
            if text {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => text = false,
                    _ => {}
                }
                continue;
            }
            if depth == 0 && *byte != b'[' {
                array = byte.is_ascii_whitespace();
                if array { continue } else { return false }
            }
            if depth == 1 && matches!(byte, b',' | b']') {
                if element {
                    end = start + at as u64;
                }
                element = false;
            } else if depth > 0 && !byte.is_ascii_whitespace() {
                element = true;
            }
            match byte {
                b'"' => text = true,
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                // A part of the file that never reached the disk.
                0 => return false,
                _ => {}
            }
            if depth == 0 {
                // What stands behind the array is none of it.
                return false;
            }
        }
        true
    })?;
    Ok(array.then_some(end))
}

/// Goes over the file from its start, as long as it is wanted.
fn each_block(file: &mut File, mut want: impl FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let (mut start, mut block) = (0, Vec::new());
    loop {
        block.clear();
        file.take(BLOCK).read_to_end(&mut block)?;
        if block.is_empty() || !want(start, &block) {
            return Ok(());
        }
        start += block.len() as u64;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file
    }

    #[test]
    fn whole_lines_end_with_a_newline_outside_quotes() {
        let far = "x".repeat(BLOCK as usize * 2);
        for (text, plain, quoted) in [
            ("", 0, 0),
            ("abc", 0, 0),
            ("a\nb", 2, 2),
            ("a\nb\n", 4, 4),
            ("a,\"x\ny\"\nb,\"x\ny", 13, 8),
            ("\"a\"\"\n\"\n\"", 7, 7),
            (&format!("a\n{far}"), 2, 2),
            (&format!("{far}\n{far}"), far.len() as u64 + 1, far.len() as u64 + 1),
        ] {
            assert_eq!(whole_lines(&mut file(text.as_bytes()), false).unwrap(), plain, "{text}");
            assert_eq!(whole_lines(&mut file(text.as_bytes()), true).unwrap(), quoted, "{text}");
        }
    }

    #[test]
    fn whole_elements_are_those_that_something_follows() {
        let whole = r#"[{"a":"]\",["},[2,[3]],12,"x",null]"#.to_owned() + "\n";
        let mut ends = Vec::new();
        for length in 0..=whole.len() {
            let end = whole_elements(&mut file(&whole.as_bytes()[..length])).unwrap().unwrap();
            let kept = format!("{}]", &whole[..(end as usize).max(1)]);
            let parsed: Vec<serde_json::Value> =
                serde_json::from_str(if end == 0 { "[]" } else { &kept }).unwrap_or_else(|_| unreachable!("{kept}"));
            assert!(end <= length as u64);
            ends.push(parsed.len());
        }
        assert!(ends.is_sorted() && ends.ends_with(&[4, 5, 5]), "{ends:?}");
        for (text, end) in [("[]\n", Some(0)), (" [1]", Some(3)), ("{}", None), ("text", None), ("[1,\0\0,2]", Some(2))]
        {
            assert_eq!(whole_elements(&mut file(text.as_bytes())).unwrap(), end, "{text:?}");
        }
        let long = format!("[\"{}\",2", "x".repeat(BLOCK as usize));
        assert_eq!(whole_elements(&mut file(long.as_bytes())).unwrap(), Some(BLOCK + 3));
    }
}
