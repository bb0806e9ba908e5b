use crate::data::{Layout, Value};
use crate::diag::Fault;
use crate::io::Parcel;
pub struct Shape;
impl Shape {
    pub fn parcels(&mut self, _layout: &Layout, _rows: &[&[Value]], _out: &mut Vec<Parcel>) -> Result<(), Fault> {
        Ok(())
    }
    pub fn error_parcel(&mut self, _text: &str) -> Result<Parcel, Fault> {
        Err(Fault::bug(""))
    }
}
