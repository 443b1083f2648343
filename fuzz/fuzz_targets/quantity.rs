//! Any text as a quantity: what is one prints as one of the same amount.
#![no_main]

use apiserver::quantity::Quantity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(quantity) = text.parse::<Quantity>() {
        let (_, _) = (quantity.value(), quantity.milli_value());
        let printed = quantity.to_string();
        let again: Quantity = printed.parse().expect("a printed quantity is a quantity");
        assert_eq!(again.milli_value(), quantity.milli_value(), "{text:?} prints as {printed:?}");
    }
});
