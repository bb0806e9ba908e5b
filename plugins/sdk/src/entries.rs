//! Entries that the tables of several kinds have alike, each written once: `entries!` makes them for a trait.
//!
//! In all of them `this` came from `create`, all other pointers are valid for the call, as the contract says.

use std::os::raw::c_void;

use crate::abi;
use crate::error::made;
use crate::export::Maker;

/// Makes an instance.
///
/// # Safety
/// `data` is a `Maker<T>`; the fault is null, or valid for the call.
pub(crate) unsafe extern "C" fn create<T>(data: *mut c_void, fault: *const abi::Fault) -> *mut c_void {
    made(fault, || Ok((*(data as *const Maker<T>))()))
}

/// `entries!(Sink: provision; step connect close; position resume)`: `provision`, the entries that take nothing, and those that take a
/// position, named as the methods of the trait that they call.
macro_rules! entries {
    ($kind:ident: provision; step $($step:ident)*; position $($position:ident)*) => {
        pub(super) unsafe extern "C" fn provision<T: $kind>(
            this: *mut c_void,
            context: *const abi::Context,
            properties: *const abi::Value,
            fault: *const abi::Fault,
        ) -> u32 {
            crate::error::entry(fault, || {
                let mut props = crate::props::Props::new(crate::value::Value::lent(&*properties));
                let config = T::Config::decode(&mut props)?;
                props.finish()?;
                (*(this as *mut T)).provision(&Context::lent(context), config)
            })
        }

        $(
            pub(super) unsafe extern "C" fn $step<T: $kind>(
                this: *mut c_void,
                context: *const abi::Context,
                fault: *const abi::Fault,
            ) -> u32 {
                crate::error::entry(fault, || (*(this as *mut T)).$step(&Context::lent(context)))
            }
        )*

        $(
            pub(super) unsafe extern "C" fn $position<T: $kind>(
                this: *mut c_void,
                context: *const abi::Context,
                position: *const abi::Value,
                fault: *const abi::Fault,
            ) -> u32 {
                crate::error::entry(fault, || {
                    let position = crate::value::Value::lent(&*position).to_owned();
                    (*(this as *mut T)).$position(&Context::lent(context), position)
                })
            }
        )*
    };
}
