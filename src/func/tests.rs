#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

#[test]
fn arities_are_read_off_the_signature() {
    let of = |signature| arity(&Func::special("x", signature, Special::Meta));
    let exact = |counts: &[usize]| Arity { counts: counts.to_vec(), more: false };
    let open = |counts: &[usize]| Arity { counts: counts.to_vec(), more: true };
    assert_eq!(of("() -> float"), exact(&[0]));
    assert_eq!(of("(text, int [, int]) -> text"), exact(&[2, 3]));
    assert_eq!(of("(any [, int [, any [, boolean]]]) -> any"), exact(&[1, 2, 3, 4]));
    assert_eq!(of("(number [, boolean, boolean]) -> float"), exact(&[1, 3]));
    assert_eq!(of("(text, ...) -> text"), open(&[1]));
    assert_eq!(of("([text, any, ...]) -> object"), open(&[0, 2]));
    assert_eq!(of("(object, text|array, ...) -> object"), open(&[2]));
}
