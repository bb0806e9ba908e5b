//! What both processes say to each other: the numbers of requests, and the form of their answers.
//!
//! A request of the engine: symbol, instance and context as words, then its arguments. One of the plugin: the number of
//! the context, then its arguments. An answer: code, a word, the text of the failure, rows that were refused, and what
//! else the call gives.

use kuiper_plugin::abi;
use kuiper_plugin::has;

use super::wire::{Broken, FAILED, Message, Reader, Writer};

/// What the engine asks for, on a lane.
pub mod ask {
    pub const LOAD: u64 = 1;
    pub const CREATE: u64 = 2;
    pub const INTRODUCE: u64 = 3;
    pub const FORGET: u64 = 4;
    pub const PROVISION: u64 = 5;
    pub const CONNECT: u64 = 6;
    pub const SUBSCRIBE: u64 = 7;
    pub const PULL: u64 = 8;
    pub const CLOSE: u64 = 9;
    pub const DESTROY: u64 = 10;
    pub const REWIND: u64 = 11;
    pub const RESET: u64 = 12;
    pub const RESUME: u64 = 13;
    pub const PING: u64 = 14;
    pub const FLUSH: u64 = 15;
    pub const POSITION: u64 = 16;
    pub const COLLECT: u64 = 17;
    pub const COLLECT_LIST: u64 = 18;
    pub const COLLECT_BYTES: u64 = 19;
    pub const FIND: u64 = 20;
    pub const VALIDATE: u64 = 21;
    pub const CALL: u64 = 22;
    pub const START: u64 = 23;
    pub const ADD: u64 = 24;
    pub const RESULT: u64 = 25;
    pub const SAVE: u64 = 26;
    pub const RESTORE: u64 = 27;
    pub const DISCARD: u64 = 28;
}

/// The name of the entry that an ask stands for, as authors of plugins know it.
pub fn entry(what: u64) -> &'static str {
    const NAMES: [&str; 29] = [
        "",
        "loading",
        "create",
        "create",
        "close",
        "provision",
        "connect",
        "subscribe",
        "pull",
        "close",
        "destroy",
        "rewind",
        "reset",
        "resume",
        "ping",
        "flush",
        "position",
        "collect",
        "collect_list",
        "collect_bytes",
        "find",
        "validate",
        "call",
        "start",
        "add",
        "result",
        "save",
        "load",
        "discard",
    ];
    NAMES.get(what as usize).copied().unwrap_or_default()
}

/// What the plugin asks for, on the lane of the call that it is in, or on one of the thread's own.
pub mod upward {
    /// Those up to here are not answered.
    pub const LAST_TOLD: u64 = 103;
    pub const LOG: u64 = 101;
    pub const STATUS: u64 = 102;
    pub const GONE: u64 = 103;
    pub const STATE_GET: u64 = 104;
    pub const STATE_PUT: u64 = 105;
    pub const EMIT_ROWS: u64 = 106;
    pub const EMIT_BYTES: u64 = 107;
    pub const EMIT_ERROR: u64 = 108;
    pub const EMIT_END: u64 = 109;
    pub const STOPPED: u64 = 110;
    pub const WAIT: u64 = 111;
    pub const ACKNOWLEDGED: u64 = 112;
    pub const TEMPLATE: u64 = 113;
    pub const JSON_PATH: u64 = 114;
    pub const COUNT: u64 = 115;
    pub const SECRET: u64 = 116;
    pub const FOLDER: u64 = 117;
}

/// An answer, in either direction.
pub const ANSWER: u64 = 200;

/// The exit code of a process that cannot speak to the engine any more.
pub const LOST: i32 = 114;

/// Packets on the control line: the first word says what, the second is of what lane.
pub mod packet {
    /// The first one: memory, files and length of files that are allowed.
    pub const LIMITS: u64 = 1;
    /// A lane, with its descriptor.
    pub const LANE: u64 = 2;
    /// The process is about to end, by what the thread of that lane did.
    pub const FELL: u64 = 3;
}

/// Puts a failure's texts where an answer has them.
pub fn put_texts(writer: &mut Writer, texts: &Collected) {
    writer.bytes(&texts.text).word(texts.rows.len() as u64);
    for (row, code, text) in &texts.rows {
        writer.word(*row as u64).word(u64::from(*code)).bytes(text);
    }
}

/// A fault's texts on their way to where the fault came from.
#[derive(Default)]
pub struct Collected {
    text: Vec<u8>,
    rows: Vec<(usize, u32, Vec<u8>)>,
}

impl Collected {
    /// Good as long as `self` is not moved.
    pub fn fault(&mut self) -> abi::Fault {
        abi::Fault {
            size: size_of::<abi::Fault>() as u32,
            reserved: 0,
            host: std::ptr::from_mut(self).cast(),
            set: Some(set),
            row: Some(row),
        }
    }

    pub fn say(&mut self, text: &str) {
        self.text = text.as_bytes().to_vec();
    }
}

unsafe extern "C" fn set(this: *const abi::Fault, _: u32, text: abi::Str) {
    // SAFETY: `host` leads to what made the fault, and only the call that runs uses it; the text is valid for the call.
    unsafe { (*(*this).host.cast::<Collected>()).text = text.as_bytes().to_vec() };
}

unsafe extern "C" fn row(this: *const abi::Fault, row: usize, code: u32, text: abi::Str) {
    // SAFETY: as in `set`.
    unsafe { (*(*this).host.cast::<Collected>()).rows.push((row, code, text.as_bytes().to_vec())) };
}

/// Values that are put, on their way.
pub struct Puts {
    count: u64,
    part: Writer,
}

impl Puts {
    pub fn new() -> Puts {
        Puts { count: 0, part: Writer::part() }
    }

    /// Good as long as `self` is not moved.
    pub fn output(&mut self) -> abi::Output {
        abi::Output {
            size: size_of::<abi::Output>() as u32,
            reserved: 0,
            host: std::ptr::from_mut(self).cast(),
            put: Some(put),
            fail: Some(fail),
        }
    }

    pub fn end(&self, writer: &mut Writer) {
        writer.word(self.count).append(self.part.raw());
    }
}

unsafe extern "C" fn put(this: *const abi::Output, values: *const abi::Value, count: usize) {
    if values.is_null() || count == 0 {
        return;
    }
    // SAFETY: as in `set`; each value is written by itself, so that many calls come to the same as one.
    unsafe {
        let puts = &mut *(*this).host.cast::<Puts>();
        for value in std::slice::from_raw_parts(values, count) {
            puts.part.flattened(std::slice::from_ref(value));
        }
        puts.count += count as u64;
    }
}

unsafe extern "C" fn fail(this: *const abi::Output, text: abi::Str) {
    // SAFETY: as in `set`.
    unsafe {
        let puts = &mut *(*this).host.cast::<Puts>();
        puts.part.failed(text.as_bytes());
        puts.count += 1;
    }
}

/// What every answer begins with.
pub struct Answer<'m> {
    pub code: u32,
    pub word: u64,
    pub text: &'m [u8],
    rows: Vec<(usize, u32, &'m [u8])>,
    /// What else it holds.
    pub rest: Reader<'m>,
}

/// Makes the beginning of an answer.
pub fn answer(code: u32, word: u64, texts: &Collected) -> Writer {
    let mut writer = Writer::new(ANSWER);
    writer.word(u64::from(code)).word(word);
    put_texts(&mut writer, texts);
    writer
}

impl<'m> Answer<'m> {
    pub fn read(message: &'m mut Message) -> Result<Answer<'m>, Broken> {
        let mut rest = message.read();
        let (code, word, text) = (rest.word()?, rest.word()?, rest.bytes()?);
        let mut rows = Vec::new();
        for _ in 0..rest.word()? {
            rows.push((rest.word()? as usize, rest.word()? as u32, rest.bytes()?));
        }
        Ok(Answer { code: code as u32, word, text, rows, rest })
    }

    /// Tells the texts to whoever called.
    ///
    /// # Safety
    /// The fault is one of the contract, or null.
    pub unsafe fn tell(&self, fault: *const abi::Fault) {
        if fault.is_null() {
            return;
        }
        // SAFETY: see above.
        unsafe {
            if let (false, Some(set)) = (self.text.is_empty(), has!(fault, set)) {
                set(fault, self.code, abi::Str::bytes(self.text));
            }
            if let Some(row) = has!(fault, row) {
                self.rows.iter().for_each(|(number, code, text)| row(fault, *number, *code, abi::Str::bytes(text)));
            }
        }
    }

    /// Puts the values that the answer holds; returns how many there were.
    ///
    /// # Safety
    /// The output is one of the contract, or null.
    pub unsafe fn put(&mut self, output: *const abi::Output) -> Result<usize, Broken> {
        let count = self.rest.word()?;
        if output.is_null() {
            return Ok(0);
        }
        // SAFETY: see above.
        let (put, fail) = unsafe { (has!(output, put), has!(output, fail)) };
        let Some(put) = put else { return Ok(0) };
        let mut values = Vec::new();
        for _ in 0..count {
            let value = self.rest.value()?;
            if value.tag != FAILED {
                values.push(value);
                continue;
            }
            // SAFETY: the values lie in the message.
            unsafe {
                if !values.is_empty() {
                    put(output, values.as_ptr(), values.len());
                }
                // An output of a plugin's own, for a state or a token, need not take failures.
                if let Some(fail) = fail {
                    fail(output, abi::Str { pointer: value.data.pointer.cast(), len: value.len as usize });
                }
            }
            values.clear();
        }
        if !values.is_empty() {
            // SAFETY: as above.
            unsafe { put(output, values.as_ptr(), values.len()) };
        }
        Ok(count as usize)
    }
}

/// Says a text to a fault.
///
/// # Safety
/// The fault is one of the contract, or null.
pub unsafe fn say(fault: *const abi::Fault, code: u32, text: &str) -> u32 {
    // SAFETY: see above.
    unsafe {
        if !fault.is_null()
            && let Some(set) = has!(fault, set)
        {
            set(fault, code, abi::Str::new(text));
        }
    }
    code
}
