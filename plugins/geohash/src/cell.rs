//! A cell of the earth: a number of bits for the longitude and one for the latitude.

const BASE32: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// Name, and steps to the north and to the east.
pub const DIRECTIONS: [(&str, i8, i8); 8] = [
    ("North", 1, 0),
    ("NorthEast", 1, 1),
    ("East", 0, 1),
    ("SouthEast", -1, 1),
    ("South", -1, 0),
    ("SouthWest", -1, -1),
    ("West", 0, -1),
    ("NorthWest", 1, -1),
];

/// Columns of the grid count from the west, rows from the south.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    column: u64,
    row: u64,
    column_bits: u32,
    row_bits: u32,
}

/// Degrees.
pub struct Edges {
    pub south: f64,
    pub north: f64,
    pub west: f64,
    pub east: f64,
}

impl Cell {
    /// The cell of so many bits around a place; where they are odd the longitude has one more.
    pub fn at(latitude: f64, longitude: f64, bits: u32) -> Cell {
        let (column_bits, row_bits) = (bits - bits / 2, bits / 2);
        let step = |degrees: f64, most: f64, bits: u32| {
            let cells = 2f64.powi(bits as i32);
            ((degrees + most) / (2.0 * most) * cells).min(cells - 1.0) as u64
        };
        Cell { column: step(longitude, 180.0, column_bits), row: step(latitude, 90.0, row_bits), column_bits, row_bits }
    }

    /// Reads base 32, in which the first bit is one of the longitude.
    pub fn from_text(text: &str) -> Option<Cell> {
        if text.is_empty() || text.len() > 12 {
            return None;
        }
        let mut all = 0u64;
        for letter in text.bytes() {
            all = all << 5 | BASE32.iter().position(|known| *known == letter.to_ascii_lowercase())? as u64;
        }
        Some(Cell::from_bits(all, text.len() as u32 * 5))
    }

    pub fn from_int(int: i64) -> Cell {
        Cell::from_bits(int as u64, 64)
    }

    fn from_bits(all: u64, bits: u32) -> Cell {
        let mut cell = Cell { column: 0, row: 0, column_bits: bits - bits / 2, row_bits: bits / 2 };
        for n in 0..bits {
            let bit = all >> (bits - 1 - n) & 1;
            let half = if n % 2 == 0 { &mut cell.column } else { &mut cell.row };
            *half = *half << 1 | bit;
        }
        cell
    }

    fn bits(&self) -> u64 {
        let all = self.column_bits + self.row_bits;
        let (mut columns, mut rows) = (self.column_bits, self.row_bits);
        (0..all).fold(0, |bits, n| {
            let (half, left) = if n % 2 == 0 { (self.column, &mut columns) } else { (self.row, &mut rows) };
            *left -= 1;
            bits << 1 | half >> *left & 1
        })
    }

    pub fn int(&self) -> i64 {
        self.bits() as i64
    }

    pub fn text(&self) -> String {
        let (bits, letters) = (self.bits(), (self.column_bits + self.row_bits) / 5);
        (0..letters).rev().map(|n| char::from(BASE32[(bits >> (5 * n) & 31) as usize])).collect()
    }

    pub fn edges(&self) -> Edges {
        let edge = |step: u64, most: f64, bits: u32| step as f64 / 2f64.powi(bits as i32) * 2.0 * most - most;
        Edges {
            south: edge(self.row, 90.0, self.row_bits),
            north: edge(self.row + 1, 90.0, self.row_bits),
            west: edge(self.column, 180.0, self.column_bits),
            east: edge(self.column + 1, 180.0, self.column_bits),
        }
    }

    /// A latitude and longitude within the cell, with as few decimals as its size allows.
    pub fn place(&self) -> (f64, f64) {
        let edges = self.edges();
        (short(edges.south, edges.north), short(edges.west, edges.east))
    }

    /// The cell so many steps away; `None` beyond a pole. East of the last is the first.
    pub fn neighbor(&self, north: i8, east: i8) -> Option<Cell> {
        let row = self.row.checked_add_signed(north.into()).filter(|row| *row < 1 << self.row_bits)?;
        let column = self.column.wrapping_add_signed(east.into()) & ((1 << self.column_bits) - 1);
        Some(Cell { column, row, ..*self })
    }
}

/// The smallest number from `low` to `high` whose decimals are coarser than their distance.
fn short(low: f64, high: f64) -> f64 {
    let decimals = -(high - low).log10().floor() as i32;
    let unit = 10f64.powi(decimals.abs());
    let steps = if decimals >= 0 { (low * unit).ceil() } else { (low / unit).ceil() };
    if decimals >= 0 {
        steps / unit
    } else {
        steps * unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_integers_come_back() {
        for text in ["u4pruydqqvj8", "ezs42", "0", "zzzzzzzzzzzz"] {
            assert_eq!(Cell::from_text(text).unwrap().text(), text);
        }
        for int in [0, -1, i64::MIN, 0x0123_4567_89ab_cdef] {
            assert_eq!(Cell::from_int(int).int(), int);
        }
    }

    #[test]
    fn corners_of_the_earth_are_cells() {
        assert_eq!(Cell::at(90.0, 180.0, 60).text(), "zzzzzzzzzzzz");
        assert_eq!(Cell::at(-90.0, -180.0, 60).text(), "000000000000");
    }

    #[test]
    fn a_place_lies_in_its_cell() {
        for n in 0..1000u64 {
            let cell = Cell::from_int(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) as i64);
            let ((latitude, longitude), edges) = (cell.place(), cell.edges());
            assert!((edges.south..=edges.north).contains(&latitude) && (edges.west..=edges.east).contains(&longitude));
        }
    }

    #[test]
    fn the_date_line_is_no_edge() {
        let last = Cell::at(0.1, 179.99, 25);
        assert_eq!(last.neighbor(0, 1).unwrap().edges().west, -180.0);
        assert_eq!(last.neighbor(0, 1).unwrap().neighbor(0, -1), Some(last));
    }
}
