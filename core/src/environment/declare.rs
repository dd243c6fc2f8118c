//! Declares tables: one line for each key, from which everything else that is known of it is made. What a declaration has to
//! offer is said in `table`; the declarations themselves stand in `file`.

use super::{slot::Slot, table::Rule};

/// Declares a table: one line for each key, which is all that the reader, the writer, the merge and the JSON Schema know of
/// it. `key: Slot = rule => default;`, where a key with a default also gets a method that answers it.
macro_rules! declare {
    ($(#[doc = $about:literal])+ $name:ident {
        $($(#[doc = $doc:literal])+ $key:ident : $slot:ty = $rule:expr $(=> $default:expr)?;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(crate) struct $name { $($(#[doc = $doc])+ pub(crate) $key: $slot,)+ }

        impl $name {
            $($(
                pub(crate) fn $key(&self) -> <$slot as $crate::environment::slot::Slot>::Value {
                    $crate::environment::slot::Slot::set(&self.$key).unwrap_or_else(|| $default)
                }
            )?)+
        }

        impl $crate::environment::table::Declared for $name {
            fn names() -> &'static [&'static str] {
                // A keyword as a key is declared raw.
                const NAMES: &[&str] = &[$($crate::environment::declare::plain(stringify!($key)),)+];
                NAMES
            }

            fn read(
                &mut self,
                name: &str,
                key: $crate::environment::faults::Place,
                node: &$crate::environment::table::Node<'_>,
                reader: &mut $crate::environment::reader::Reader<'_, '_>,
            ) -> bool {
                $(if name == $crate::environment::declare::plain(stringify!($key)) {
                    self.$key = $crate::environment::table::Rule::read(&$crate::environment::declare::of::<$slot, _>($rule), key, node, reader);
                    return true;
                })+
                false
            }

            fn lacks(&self, name: &str) -> bool {
                $(if name == $crate::environment::declare::plain(stringify!($key)) {
                    return $crate::environment::slot::Slot::is_absent(&self.$key);
                })+
                false
            }

            fn merge(&mut self, over: Self) {
                $($crate::environment::slot::Slot::merge(&mut self.$key, over.$key);)+
            }

            fn find(&self, path: &[&str]) -> $crate::environment::slot::Found {
                let [first, rest @ ..] = path else { return $crate::environment::slot::Found::Absent };
                $(if *first == $crate::environment::declare::plain(stringify!($key)) {
                    return $crate::environment::slot::Slot::find(&self.$key, rest);
                })+
                $crate::environment::slot::Found::Absent
            }

            fn write(&self) -> toml::Table {
                let mut table = toml::Table::new();
                $(if let Some(value) = $crate::environment::table::Rule::write(&$crate::environment::declare::of::<$slot, _>($rule), &self.$key) {
                    table.insert($crate::environment::declare::plain(stringify!($key)).to_owned(), value);
                })+
                table
            }

            fn missing(
                &self,
                path: &str,
                header: Option<$crate::environment::faults::Place>,
                out: &mut Vec<$crate::environment::table::Missing>,
            ) {
                $({
                    let name = $crate::environment::declare::plain(stringify!($key));
                    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                    $crate::environment::table::Rule::missing(&$crate::environment::declare::of::<$slot, _>($rule), &self.$key, &path, header, out);
                })+
            }

            fn list(path: &str, out: &mut Vec<String>) {
                $({
                    let name = $crate::environment::declare::plain(stringify!($key));
                    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                    $crate::environment::table::Rule::list(&$crate::environment::declare::of::<$slot, _>($rule), path, out);
                })+
            }

            fn properties() -> serde_json::Map<String, serde_json::Value> {
                let mut properties = serde_json::Map::new();
                $({
                    let rule = $crate::environment::declare::of::<$slot, _>($rule);
                    let required = $crate::environment::table::Rule::required(&rule);
                    let mut schema = $crate::environment::table::Rule::schema(&rule);
                    schema["description"] = $crate::environment::declare::words(concat!($($doc, "
"),+), required).into();
                    $(if let Some(default) = $crate::environment::table::Rule::write_default(&rule, &$default) {
                        schema["default"] = serde_json::to_value(default).unwrap_or_default();
                    })?
                    properties.insert($crate::environment::declare::plain(stringify!($key)).to_owned(), schema);
                })+
                properties
            }

            fn required() -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if $crate::environment::table::Rule::required(&$crate::environment::declare::of::<$slot, _>($rule)) {
                    names.push($crate::environment::declare::plain(stringify!($key)));
                })+
                names
            }
        }
    };
}
pub(crate) use declare;

/// The rule whose values come to rest in this slot; by which a rule's type is found.
pub(crate) fn of<S: Slot, R: Rule<Slot = S>>(rule: R) -> R {
    rule
}

/// The doc comment of a key as the words of its description.
pub(crate) fn words(doc: &str, required: bool) -> String {
    let lines: Vec<&str> = doc.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ") + if required { " Required." } else { "" }
}

/// The name of a key that is declared as a raw identifier, because it is a word of Rust's own: `for`.
pub(crate) const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}
