//! Money: an integer count of the smallest unit (10^-18 gUSD), never a float.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Digits after the point of one gUSD.
const DECIMALS: usize = 18;
/// One gUSD in the smallest unit.
const ONE: u128 = 1_000_000_000_000_000_000;

/// An amount of gUSD in its smallest unit. Always below 2^96, the width the contracts keep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Amount(u128);

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);
    /// The most a contract field can hold: 2^96 - 1, about 79 thousand million gUSD.
    pub const MAX: Amount = Amount((1 << 96) - 1);

    /// An amount in the smallest unit; `None` above [`Amount::MAX`].
    pub const fn from_units(units: u128) -> Option<Amount> {
        if units > Amount::MAX.0 { None } else { Some(Amount(units)) }
    }

    /// Whole gUSD. For constants and tests: `n` must be below 79 thousand million.
    pub const fn whole(n: u64) -> Amount {
        let units = n as u128 * ONE;
        assert!(units <= Amount::MAX.0, "more gUSD than a contract field holds");
        Amount(units)
    }

    /// The count of smallest units.
    pub const fn units(self) -> u128 {
        self.0
    }

    /// The sum, or `None` when it would not fit a contract field.
    pub fn checked_add(self, other: Amount) -> Option<Amount> {
        Amount::from_units(self.0 + other.0)
    }

    /// The difference, or `None` when `other` is larger.
    pub fn checked_sub(self, other: Amount) -> Option<Amount> {
        self.0.checked_sub(other.0).map(Amount)
    }

    /// The sum, capped at [`Amount::MAX`].
    pub fn saturating_add(self, other: Amount) -> Amount {
        self.checked_add(other).unwrap_or(Amount::MAX)
    }

    /// The difference, or zero.
    pub fn saturating_sub(self, other: Amount) -> Amount {
        Amount(self.0.saturating_sub(other.0))
    }

    /// The price of `fuel` at this price per 10^9 fuel, rounded up so that no work is free.
    /// `None` when it would not fit a contract field.
    pub fn price_of(self, fuel: u64) -> Option<Amount> {
        // 2^96 * 2^64 does not fit u128, so split the fuel at 10^9.
        let (whole, rest) = (u128::from(fuel) / 1_000_000_000, u128::from(fuel) % 1_000_000_000);
        let rest = (self.0 * rest).div_ceil(1_000_000_000);
        Amount::from_units(self.0.checked_mul(whole)?.checked_add(rest)?)
    }

    /// `self * numerator / denominator`, rounded down and capped at [`Amount::MAX`].
    pub fn scale(self, numerator: u32, denominator: u32) -> Amount {
        let units = self.0 * u128::from(numerator) / u128::from(denominator.max(1));
        Amount::from_units(units).unwrap_or(Amount::MAX)
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::ZERO, Amount::saturating_add)
    }
}

impl fmt::Display for Amount {
    /// `3.2`, `0.000001`: all digits that matter and none that do not. `{:.4}` rounds down to four places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / ONE, self.0 % ONE);
        let digits = format!("{rest:0DECIMALS$}");
        let text = match f.precision() {
            Some(0) => whole.to_string(),
            Some(places) => format!("{whole}.{}", &digits[..places.min(DECIMALS)]),
            None => match digits.trim_end_matches('0') {
                "" => whole.to_string(),
                digits => format!("{whole}.{digits}"),
            },
        };
        f.pad_integral(true, "", &text)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} gUSD")
    }
}

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount: write gUSD like 12 or 0.05, with at most 18 digits after the point")]
pub struct ParseAmountError(String);

impl FromStr for Amount {
    type Err = ParseAmountError;

    fn from_str(text: &str) -> Result<Amount, ParseAmountError> {
        let fail = || ParseAmountError(text.chars().take(80).collect());
        let (whole, rest) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && rest.is_empty()) || !is_number(whole) || !is_number(rest) {
            return Err(fail());
        }
        if rest.len() > DECIMALS || whole.len() > 20 {
            return Err(fail());
        }
        let digits = format!("{whole}{rest:0<DECIMALS$}");
        digits.parse().ok().and_then(Amount::from_units).ok_or_else(fail)
    }
}

impl Serialize for Amount {
    /// A decimal string in gUSD for people; the count of units on the wire.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Amount, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map_err(de::Error::custom)
        } else {
            let units = u128::deserialize(d)?;
            Amount::from_units(units).ok_or_else(|| de::Error::custom("amount above 2^96"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_as_people_do() {
        for (text, units) in [("0", 0), ("12", 12 * ONE), ("0.05", ONE / 20), (".5", ONE / 2)] {
            assert_eq!(text.parse::<Amount>().unwrap().units(), units);
        }
        for text in ["", ".", "-1", "1e3", "1.0000000000000000001", "99999999999999999999"] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
        assert_eq!(format!("{:.2}", "1.999".parse::<Amount>().unwrap()), "1.99");
    }

    #[test]
    fn no_work_is_free_and_nothing_overflows() {
        assert_eq!(Amount(1).price_of(1), Some(Amount(1)));
        assert_eq!(Amount::whole(2).price_of(1_500_000_000), Some(Amount::whole(3)));
        assert_eq!(Amount::MAX.price_of(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn text_round_trips(units in 0..=Amount::MAX.0) {
            let amount = Amount(units);
            prop_assert_eq!(amount.to_string().parse::<Amount>().unwrap(), amount);
        }

        #[test]
        fn splitting_fuel_never_makes_it_cheaper(price in 0..u128::from(u64::MAX), a: u32, b: u32) {
            let price = Amount(price);
            let split = price.price_of(a.into()).unwrap().checked_add(price.price_of(b.into()).unwrap());
            prop_assert!(split >= price.price_of(u64::from(a) + u64::from(b)));
        }
    }
}
