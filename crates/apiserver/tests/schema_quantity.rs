//! Quantities: upstream's own cases (`apimachinery/pkg/api/resource/quantity_test.go`) and round trips.

use apiserver::quantity::{Format, Quantity, QuantityError};
use proptest::prelude::*;

fn parse(text: &str) -> Quantity {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// `digits` times ten to the `exponent`, in nanos.
fn decimal(digits: i128, exponent: i32) -> i128 {
    digits * 10i128.pow((exponent + 9) as u32)
}

#[test]
fn amounts_and_formats() {
    use Format::{Binary, Decimal, Exponent};
    const KI: i128 = 1024;
    let cap = i128::from(i64::MAX);
    let cases: &[(&str, i128, i32, Format)] = &[
        ("0", 0, 0, Decimal),
        ("0n", 0, 0, Decimal),
        ("0Ki", 0, 0, Binary),
        ("0M", 0, 0, Decimal),
        ("00", 0, 0, Decimal),
        ("1", 1, 0, Decimal),
        ("1Ki", KI, 0, Binary),
        ("8Ki", 8 * KI, 0, Binary),
        ("7Mi", 7 * KI * KI, 0, Binary),
        ("6Gi", 6 * KI.pow(3), 0, Binary),
        ("5Ti", 5 * KI.pow(4), 0, Binary),
        ("4Pi", 4 * KI.pow(5), 0, Binary),
        ("3Ei", 3 * KI.pow(6), 0, Binary),
        ("100Ti", 100 * KI.pow(4), 0, Binary),
        ("5n", 5, -9, Decimal),
        ("4u", 4, -6, Decimal),
        ("3m", 3, -3, Decimal),
        ("8k", 8, 3, Decimal),
        ("7M", 7, 6, Decimal),
        ("6G", 6, 9, Decimal),
        ("300T", 3, 14, Decimal),
        ("2P", 2, 15, Decimal),
        ("1E", 1, 18, Decimal),
        ("1E-3", 1, -3, Exponent),
        ("1e3", 1, 3, Exponent),
        ("1E18", 1, 18, Exponent),
        ("1e14", 1, 14, Exponent),
        ("100.035k", 100_035, 0, Decimal),
        ("0.001", 1, -3, Decimal),
        ("0.0005k", 5, -1, Decimal),
        ("0.05000", 5, -2, Decimal),
        ("0.5e-2", 5, -3, Exponent),
        ("10.035M", 10_035, 3, Decimal),
        ("1.3E+6", 13, 5, Exponent),
        ("1.7E18", 17, 17, Exponent),
        ("9.01", 901, -2, Decimal),
        ("6.987654321G", 6_987_654_321, 0, Decimal),
        ("1.01E", 101, 16, Decimal),
        ("3.001n", 4, -9, Decimal),
        ("1.1E-9", 2, -9, Exponent),
        ("0.0000000001", 1, -9, Decimal),
        ("0.5e-9", 1, -9, Exponent),
        ("0.9n", 1, -9, Decimal),
        ("0.00000012345", 124, -9, Decimal),
        ("0.00000012354", 124, -9, Decimal),
        ("9Ei", cap, 0, Binary),
        ("9223372036854775807Ki", cap, 0, Binary),
        ("12E", 12, 18, Decimal),
        ("100.035Ki", 10_243_584, -2, Binary),
        ("0.5Mi", KI * KI / 2, 0, Binary),
        ("0.05Gi", 536_870_912, -1, Binary),
        ("0.000000000001Ki", 2, -9, Decimal),
        (".001", 1, -3, Decimal),
        (".0001k", 100, -3, Decimal),
        ("1.", 1, 0, Decimal),
        ("1.G", 1, 9, Decimal),
        ("1e-100", 1, -9, Exponent),
        // only binary amounts are capped
        (
            "99999999999999999999",
            99_999_999_999_999_999_999,
            0,
            Decimal,
        ),
        (
            "3233720368547758074775807141000001n",
            3_233_720_368_547_758_074_775_807_141_000_001,
            -9,
            Decimal,
        ),
        (
            "0.00000000000000000000000000000000000000000000000001e60",
            1,
            10,
            Exponent,
        ),
        ("1e-2000000000", 1, -9, Exponent),
        ("9223372036854775800e6", 92_233_720_368_547_758, 8, Exponent),
    ];
    for (text, digits, exponent, format) in cases {
        for (sign, negative) in [("", false), ("+", false), ("-", true)] {
            let quantity = parse(&format!("{sign}{text}"));
            let expected = decimal(*digits, *exponent) * if negative { -1 } else { 1 };
            assert_eq!(quantity.nano_value(), expected, "{sign}{text}");
            assert_eq!(quantity.format(), *format, "{sign}{text}");
        }
    }
}

#[test]
fn texts_that_are_no_quantity() {
    for text in [
        "",
        ".",
        "+",
        "-",
        "1.1.M",
        "1+1.0M",
        "0.1mi",
        "0.1am",
        "aoeu",
        ".5i",
        "1i",
        "-3.01i",
        "-3.01e-",
        " 1",
        "1 ",
        "1 m",
        "1mm",
        "1KiKi",
        "--1",
        "1e",
        "1e+",
        "1e1.5",
        "1E1k",
        "Ki",
        "0x10",
        "1_000",
        "１",
        "1\u{0}",
        "NaN",
        "inf",
        "1e99999999999999999999",
    ] {
        assert!(text.parse::<Quantity>().is_err(), "{text:?}");
    }
    assert_eq!("1x".parse::<Quantity>(), Err(QuantityError::Format));
    assert_eq!("1mi".parse::<Quantity>(), Err(QuantityError::Suffix));
    assert!(
        QuantityError::Format
            .to_string()
            .starts_with("quantities must match the regular expression '^([+-]?")
    );
}

#[test]
fn canonical_texts() {
    for (text, canonical) in [
        ("1024Mi", "1Gi"),
        ("307200Ki", "300Mi"),
        ("6Ki", "6Ki"),
        ("1025024Mi", "1001Gi"),
        ("1024Gi", "1Ti"),
        ("5000m", "5"),
        ("0.5", "500m"),
        ("1000M", "1G"),
        ("0.001T", "1G"),
        ("1000u", "1m"),
        ("1.08", "1080m"),
        ("1080000000n", "1080m"),
        ("1234567M", "1234567M"),
        ("1.205k", "1205"),
        ("1025", "1025"),
        (".001e12", "1e9"),
        ("0.001e0", "1e-3"),
        ("1000e-12", "1e-9"),
        ("80e-3", "80e-3"),
        ("300e6", "300e6"),
        ("1e0", "1"),
        ("00", "0"),
        ("0Ki", "0"),
        ("0.5Ki", "512"),
        ("1.5Ki", "1536"),
        ("0.1Ki", "102400m"),
        ("1023Ki", "1023Ki"),
        ("2048Ki", "2Mi"),
        ("12E", "12E"),
        ("100000E", "100000E"),
        ("1e21", "1000e18"),
        ("1Ei", "1Ei"),
        ("128974848", "128974848"),
        ("129e6", "129e6"),
    ] {
        assert_eq!(parse(text).to_string(), canonical, "{text}");
        if canonical != "0" {
            assert_eq!(
                parse(&format!("-{text}")).to_string(),
                format!("-{canonical}")
            );
        }
    }
}

#[test]
fn whole_and_thousandth_values_round_away_from_zero() {
    for (text, value, milli) in [
        ("1", 1, 1000),
        ("500m", 1, 500),
        ("1n", 1, 1),
        ("1500m", 2, 1500),
        ("-500m", -1, -500),
        ("0", 0, 0),
        ("100Mi", 104_857_600, 104_857_600_000),
        ("0.1u", 1, 1),
        ("9Ei", i64::MAX, i64::MAX),
        ("100E", i64::MAX, i64::MAX),
        ("-100E", i64::MIN, i64::MIN),
    ] {
        assert_eq!(
            (parse(text).value(), parse(text).milli_value()),
            (value, milli),
            "{text}"
        );
    }
}

#[test]
fn comparing_adding_and_subtracting() {
    assert_eq!(parse("1"), parse("1000m"));
    assert_eq!(parse("1Gi"), parse("1073741824"));
    assert!(parse("1G") < parse("1Gi"));
    assert!(parse("-1") < parse("0"));
    for (left, right, sum, difference) in [
        ("10", "1.1", "11100m", "8900m"),
        ("10Ki", "1", "10241", "10239"),
        ("0", "1Ki", "1Ki", "-1Ki"),
        ("1Ki", "0", "1Ki", "1Ki"),
        ("100m", "900m", "1", "-800m"),
        ("1e3", "1k", "2e3", "0"),
    ] {
        assert_eq!(
            (parse(left) + parse(right)).to_string(),
            sum,
            "{left} + {right}"
        );
        assert_eq!(
            (parse(left) - parse(right)).to_string(),
            difference,
            "{left} - {right}"
        );
    }
    let total: Quantity = ["250m", "1", "250m"].into_iter().map(parse).sum();
    assert_eq!(total.to_string(), "1500m");
    assert_eq!(
        Quantity::from_milli_value(1500, Format::Decimal).to_string(),
        "1500m"
    );
    assert_eq!(
        Quantity::from_value(2048, Format::Binary).to_string(),
        "2Ki"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_quantity_or_an_error(text in "\\PC{0,20}") {
        let _ = text.parse::<Quantity>();
    }

    #[test]
    fn quantity_like_text_never_overflows(text in "[+-]?[0-9]{0,60}\\.?[0-9]{0,60}([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,9})?") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            let _ = (quantity.value(), quantity.milli_value(), quantity + quantity, quantity - quantity);
            // Upstream caps larger amounts only when they are written with more than 18 digits.
            if quantity.nano_value().abs() <= i128::from(i64::MAX) * 1_000_000_000 {
                prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
            }
        }
    }

    #[test]
    fn canonical_text_keeps_amount_and_is_its_own_canonical_text(amount in any::<i64>(), suffix in "|n|u|m|k|M|Ki|Mi|e3|e-3") {
        let text = format!("{amount}{suffix}");
        let quantity: Quantity = text.parse().expect("a quantity");
        let canonical = quantity.to_string();
        let again: Quantity = canonical.parse().expect("a quantity");
        prop_assert_eq!(again, quantity, "{} {}", text, canonical);
        prop_assert_eq!(again.to_string(), canonical);
    }

    #[test]
    fn subtracting_undoes_adding(a in any::<i32>(), b in any::<i32>()) {
        let (a, b) = (parse(&format!("{a}m")), parse(&format!("{b}u")));
        prop_assert_eq!(a + b - b, a);
    }
}
