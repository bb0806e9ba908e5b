//! On the engine's side: what a process asks of a context, as a call of the real one.

use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, level};
use kuiper_plugin::has;

use super::lane::Lane;
use super::process::{Process, patiently};
use super::protocol::{Collected, Puts, answer, upward};
use super::wire::{Broken, Message, Reader, Writer};

/// Does it, and answers where an answer is waited for.
pub fn serve(process: &Process, lane: &mut Lane, mut message: Message) -> Result<(), Broken> {
    let what = message.what;
    let mut from = message.read();
    let id = from.word()?;
    if what == upward::GONE {
        process.let_go(id);
        return Ok(());
    }
    let Some(held) = process.held(id) else { return Err(Broken) };
    let context = held.raw();
    // SAFETY: the context is held; what the message holds was checked while it was read.
    let answer = unsafe {
        match what {
            upward::LOG => {
                let (weight, text) = (from.word()? as u32, from.str()?);
                let shown = match weight {
                    level::DEBUG.. => tracing::enabled!(tracing::Level::DEBUG),
                    _ => true,
                };
                if let Some(log) = has!(context, log)
                    && shown
                    && process.gate().passes()
                {
                    log(context, weight, text);
                }
                return Ok(());
            }
            upward::STATUS => {
                let (status, text) = (from.word()? as u32, from.str()?);
                if let Some(report) = has!(context, status) {
                    report(context, status, text);
                }
                return Ok(());
            }
            _ => answered(context, what, &mut from)?,
        }
    };
    let mut answer = answer;
    // Whoever asked may have ended by now, which the next who waits hears.
    let _ = lane.send(answer.finish());
    Ok(())
}

/// # Safety
/// The context is of the contract.
unsafe fn answered(context: *const abi::Context, what: u64, from: &mut Reader<'_>) -> Result<Writer, Broken> {
    let (mut texts, mut puts, mut word) = (Collected::default(), Puts::new(), 0);
    let fault = texts.fault();
    let into = puts.output();
    // SAFETY: see above; pointers live until the calls return. What is waited for is waited for patiently.
    let done = unsafe {
        match what {
            upward::STATE_GET => {
                let key = from.str()?;
                has!(context, state_get).map(|get| get(context, key, &into))
            }
            upward::STATE_PUT => {
                let (key, value) = (from.str()?, from.value()?);
                has!(context, state_put).map(|put| put(context, key, &value))
            }
            upward::EMIT_ROWS => {
                let said = Said::read(from)?;
                let batch = from.batch()?;
                match (said.emission(), has!(context, emit_rows_with), has!(context, emit_rows)) {
                    (Some(emission), Some(emit), _) => Some(patiently(|| emit(context, &batch.raw, &emission))),
                    (_, _, emit) => emit.map(|emit| patiently(|| emit(context, &batch.raw))),
                }
            }
            upward::EMIT_BYTES => {
                let said = Said::read(from)?;
                let messages = from.messages()?;
                match (said.emission(), has!(context, emit_bytes_with), has!(context, emit_bytes)) {
                    (Some(emission), Some(emit), _) => Some(patiently(|| emit(context, &messages.raw, &emission))),
                    (_, _, emit) => emit.map(|emit| patiently(|| emit(context, &messages.raw))),
                }
            }
            upward::EMIT_ERROR => {
                let text = from.str()?;
                has!(context, emit_error).map(|emit| patiently(|| emit(context, text)))
            }
            upward::EMIT_END => has!(context, emit_end).map(|emit| emit(context)),
            upward::STOPPED => has!(context, stopped).map(|stopped| stopped(context)),
            upward::WAIT => {
                let nanos = from.word()?;
                has!(context, wait).map(|wait| patiently(|| wait(context, nanos)))
            }
            upward::ACKNOWLEDGED => {
                let nanos = from.word()?;
                has!(context, acknowledged).map(|acknowledged| patiently(|| acknowledged(context, nanos, &into)))
            }
            upward::TEMPLATE => {
                let (text, value) = (from.str()?, from.value()?);
                has!(context, template).map(|template| template(context, text, &value, &into, &fault))
            }
            upward::JSON_PATH => {
                let (path, value) = (from.str()?, from.value()?);
                has!(context, json_path).map(|find| find(context, path, &value, &into, &fault))
            }
            upward::COUNT => {
                let (key, by) = (from.str()?, from.word()? as i64);
                has!(context, count).map(|count| {
                    word = count(context, key, by) as u64;
                    code::OK
                })
            }
            upward::SECRET => {
                let name = from.str()?;
                has!(context, secret).map(|secret| secret(context, name, &into))
            }
            upward::FOLDER => has!(context, folder).map(|folder| folder(context, &into)),
            _ => return Err(Broken),
        }
    };
    let mut writer = answer(done.unwrap_or(code::NEVER), word, &texts);
    puts.end(&mut writer);
    Ok(writer)
}

/// What else is said of an emission.
struct Said {
    there: bool,
    token: u64,
    position: Option<abi::Value>,
}

impl Said {
    fn read(from: &mut Reader<'_>) -> Result<Said, Broken> {
        let said = from.word()?;
        let there = said & 1 != 0;
        let token = if there { from.word()? } else { 0 };
        let position = if said & 2 != 0 { Some(from.value()?) } else { None };
        Ok(Said { there, token, position })
    }

    /// Good as long as `self` lives.
    fn emission(&self) -> Option<abi::Emission> {
        self.there.then(|| abi::Emission {
            size: size_of::<abi::Emission>() as u32,
            flags: 0,
            position: self.position.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
            token: self.token,
        })
    }
}
