//! Functions: [`Function`] takes one row of arguments, [`Aggregate`] the rows of a group.
//!
//! A plain `fn(Row) -> Result<V>` is a [`Function`] too. Arguments come by position: `row.arg(0)`.

use std::marker::PhantomData;
use std::os::raw::c_void;

use crate::abi;
use crate::context::Context;
use crate::entries::create;
use crate::error::{entry, freed, made, Error, Result};
use crate::export::Maker;
use crate::rows::{Row, Rows};
use crate::value::{put, Owned, Value};

/// A scalar function. Each call in a statement has an instance of its own, unless it is exported as a singleton.
pub trait Function: Send + 'static {
    /// Says at planning whether these arguments will do; one that is no constant is `None`.
    fn validate(&self, arguments: &[Option<Value<'_>>]) -> Result<()> {
        let _ = arguments;
        Ok(())
    }

    /// The value for one row of arguments. An error is that row's alone.
    fn call(&mut self, context: &Context, arguments: Row<'_>) -> Result<Owned>;

    /// The values for many rows, one for each.
    fn call_all(&mut self, context: &Context, rows: Rows<'_>) -> Vec<Result<Owned>> {
        rows.iter().map(|row| self.call(context, row)).collect()
    }

    /// Hands the values over, one for each row.
    #[doc(hidden)]
    fn give(&mut self, context: &Context, rows: Rows<'_>, output: &Results) -> Result<()>
    where
        Self: Sized,
    {
        let results = self.call_all(context, rows);
        if results.len() != rows.len() {
            return Err(Error::bug(format!("{} results for {} rows", results.len(), rows.len())));
        }
        for result in &results {
            match result {
                Ok(value) => output.put(value),
                Err(error) => output.fail(error),
            }
        }
        Ok(())
    }
}

/// Where the results of a call go.
#[doc(hidden)]
pub struct Results(*const abi::Output);

impl Results {
    #[inline]
    fn put(&self, value: &Owned) {
        // SAFETY: made in `call`, for as long as that runs.
        unsafe { put(self.0, value) }
    }

    fn fail(&self, error: &Error) {
        // SAFETY: as in `put`.
        unsafe { fail(self.0, error) }
    }
}

/// A plain function, as a [`Function`]. Made by `row(f)` in [`export!`](crate::export!).
pub struct PerRow<F, V>(F, PhantomData<fn() -> V>);

impl<F, V> PerRow<F, V> {
    pub(crate) fn new(function: F) -> PerRow<F, V> {
        PerRow(function, PhantomData)
    }
}

impl<F, V> Function for PerRow<F, V>
where
    F: Fn(Row<'_>) -> Result<V> + Send + 'static,
    V: Into<Owned> + 'static,
{
    fn call(&mut self, _: &Context, arguments: Row<'_>) -> Result<Owned> {
        (self.0)(arguments).map(Into::into)
    }

    /// Without keeping them all until the last is there.
    fn give(&mut self, _: &Context, rows: Rows<'_>, output: &Results) -> Result<()> {
        for row in rows {
            match (self.0)(row) {
                Ok(value) => output.put(&value.into()),
                Err(error) => output.fail(&error),
            }
        }
        Ok(())
    }
}

/// An aggregate function: each group has an instance of its own.
pub trait Aggregate: Send + 'static {
    /// Says at planning whether these arguments will do; one that is no constant is `None`.
    fn validate(arguments: &[Option<Value<'_>>]) -> Result<()>
    where
        Self: Sized,
    {
        let _ = arguments;
        Ok(())
    }

    /// Takes a row of arguments.
    fn add(&mut self, context: &Context, arguments: Row<'_>) -> Result<()>;

    /// The result so far; more rows may follow.
    fn result(&mut self, context: &Context) -> Result<Owned>;

    /// What `load` needs to go on after a restart.
    fn save(&self) -> Owned {
        Owned::Null
    }

    /// Goes on from what `save` returned.
    fn load(&mut self, saved: Owned) -> Result<()> {
        let _ = saved;
        Ok(())
    }
}

/// An aggregate function that looks at all rows of a group together: what they are is kept for it, and saved with the rule.
pub trait ListAggregate: Send + 'static {
    /// Says at planning whether these arguments will do; one that is no constant is `None`.
    fn validate(arguments: &[Option<Value<'_>>]) -> Result<()>
    where
        Self: Sized,
    {
        let _ = arguments;
        Ok(())
    }

    /// The result for a group: one list an argument, one value a row.
    fn call(&mut self, context: &Context, lists: &[Vec<Owned>]) -> Result<Owned>;
}

/// A [`ListAggregate`] as an [`Aggregate`].
pub(crate) struct Listed<L> {
    function: L,
    lists: Vec<Vec<Owned>>,
}

impl<L> Listed<L> {
    pub(crate) fn new(function: L) -> Listed<L> {
        Listed { function, lists: Vec::new() }
    }
}

impl<L: ListAggregate> Aggregate for Listed<L> {
    fn validate(arguments: &[Option<Value<'_>>]) -> Result<()> {
        L::validate(arguments)
    }

    fn add(&mut self, _: &Context, arguments: Row<'_>) -> Result<()> {
        self.lists.resize_with(arguments.len().max(self.lists.len()), Vec::new);
        for (list, value) in self.lists.iter_mut().zip(arguments.values()) {
            list.push(value.to_owned());
        }
        Ok(())
    }

    fn result(&mut self, context: &Context) -> Result<Owned> {
        self.function.call(context, &self.lists)
    }

    fn save(&self) -> Owned {
        Owned::Array(self.lists.iter().map(|list| Owned::Array(list.clone())).collect())
    }

    fn load(&mut self, saved: Owned) -> Result<()> {
        let foreign = || Error::bug("what was saved is no list of lists");
        let lists = match saved {
            Owned::Array(lists) => lists,
            _ => return Err(foreign()),
        };
        let list = |list| match list {
            Owned::Array(values) => Ok(values),
            _ => Err(foreign()),
        };
        self.lists = lists.into_iter().map(list).collect::<Result<_>>()?;
        Ok(())
    }
}

pub(crate) fn scalar<F: Function>() -> abi::Function {
    abi::Function {
        size: std::mem::size_of::<abi::Function>() as u32,
        reserved: 0,
        create: Some(create::<F>),
        validate: Some(validate::<F>),
        call: Some(call::<F>),
        start: None,
        add: None,
        result: None,
        save: None,
        load: None,
        discard: None,
        destroy: Some(freed::<F>),
    }
}

pub(crate) fn aggregate<A: Aggregate>() -> abi::Function {
    abi::Function {
        size: std::mem::size_of::<abi::Function>() as u32,
        reserved: 0,
        create: Some(factory::<A>),
        validate: Some(validate_group::<A>),
        call: None,
        start: Some(start::<A>),
        add: Some(add::<A>),
        result: Some(result::<A>),
        save: Some(save::<A>),
        load: Some(load::<A>),
        discard: Some(discard::<A>),
        destroy: Some(freed::<Groups<A>>),
    }
}

/// The instance of an aggregate is what makes its groups.
struct Groups<A: 'static>(&'static Maker<A>);

// In all entries below: `this` and `group` came from the entries that make them, all other pointers are valid for the call.

unsafe extern "C" fn validate<F: Function>(
    this: *mut c_void,
    arguments: *const abi::Value,
    count: usize,
    fault: *const abi::Fault,
) -> u32 {
    entry(fault, || (*(this as *const F)).validate(&known(arguments, count)))
}

unsafe extern "C" fn validate_group<A: Aggregate>(
    _: *mut c_void,
    arguments: *const abi::Value,
    count: usize,
    fault: *const abi::Fault,
) -> u32 {
    entry(fault, || A::validate(&known(arguments, count)))
}

/// Arguments of which some are known.
unsafe fn known<'a>(arguments: *const abi::Value, count: usize) -> Vec<Option<Value<'a>>> {
    (0..count)
        .map(|n| &*arguments.add(n))
        .map(|value| if value.tag == abi::tag::MISSING { None } else { Some(Value::lent(value)) })
        .collect()
}

unsafe extern "C" fn call<F: Function>(
    this: *mut c_void,
    context: *const abi::Context,
    arguments: *const abi::Batch,
    output: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    entry(fault, || (*(this as *mut F)).give(&Context::lent(context), Rows::lent(arguments), &Results(output)))
}

unsafe fn fail(output: *const abi::Output, error: &Error) {
    if let Some(fail) = has!(output, fail) {
        fail(output, abi::Str::new(&error.to_string()));
    }
}

unsafe extern "C" fn factory<A: Aggregate>(data: *mut c_void, fault: *const abi::Fault) -> *mut c_void {
    made(fault, || Ok(Groups(&*(data as *const Maker<A>))))
}

unsafe extern "C" fn start<A: Aggregate>(this: *mut c_void, fault: *const abi::Fault) -> *mut c_void {
    made(fault, || Ok((*(this as *const Groups<A>)).0()))
}

unsafe extern "C" fn add<A: Aggregate>(
    _: *mut c_void,
    context: *const abi::Context,
    group: *mut c_void,
    arguments: *const abi::Batch,
    fault: *const abi::Fault,
) -> u32 {
    entry(fault, || {
        let group = &mut *(group as *mut A);
        Rows::lent(arguments).iter().try_for_each(|row| group.add(&Context::lent(context), row))
    })
}

unsafe extern "C" fn result<A: Aggregate>(
    _: *mut c_void,
    context: *const abi::Context,
    group: *mut c_void,
    output: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    entry(fault, || {
        let value = (*(group as *mut A)).result(&Context::lent(context))?;
        put(output, &value);
        Ok(())
    })
}

unsafe extern "C" fn save<A: Aggregate>(
    _: *mut c_void,
    _: *const abi::Context,
    group: *mut c_void,
    output: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    entry(fault, || {
        put(output, &(*(group as *mut A)).save());
        Ok(())
    })
}

unsafe extern "C" fn load<A: Aggregate>(
    this: *mut c_void,
    saved: *const abi::Value,
    fault: *const abi::Fault,
) -> *mut c_void {
    made(fault, || {
        let mut group = (*(this as *const Groups<A>)).0();
        group.load(Value::lent(&*saved).to_owned())?;
        Ok(group)
    })
}

unsafe extern "C" fn discard<A: Aggregate>(_: *mut c_void, group: *mut c_void) {
    freed::<A>(group);
}
