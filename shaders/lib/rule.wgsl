// The part of the backward rule that selects; its ties are a constant. Some drivers recompile when a uniform that
// decides a branch changes. The twin of src/rule.rs.

struct Rule {
    toward: vec4<bool>,
    nan_zero: vec4<bool>,
}
