//! Chance that can be repeated: `FAULTS_SEED`, and how long the run is to be.

/// Numbers that follow from the seed and a name (xorshift64*).
pub struct Chance(u64);

impl Chance {
    pub fn of(name: &str) -> Chance {
        let mut state = seed().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xCBF2_9CE4_8422_2325;
        for byte in name.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        Chance(state | 1)
    }

    /// A number below the bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }
}

pub fn seed() -> u64 {
    number("FAULTS_SEED").unwrap_or(1)
}

/// Whether this is the long run.
fn long() -> bool {
    std::env::var("FAULTS_LONG").is_ok_and(|value| value != "0")
}

/// How often the server is killed.
pub fn kills() -> u64 {
    number("FAULTS_KILLS").unwrap_or_else(|| either(50, 1_000))
}

/// One number for the test, another one for the long run.
pub fn either(short: u64, long_run: u64) -> u64 {
    if long() { long_run } else { short }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, found `{text}`")))
}
