//! The macro that declares the keys of a table; [`super::keys`] has the rows.

/// Declares the keys of a table: the struct that serde reads and writes, and the options that override
/// keys. A key of the first part is resolved in [`super::load`], from its [`Entry`]. A key of the part
/// `values` has a [`Kind`](super::kinds::Kind), from which all the rest follows.
macro_rules! table {
    (
        $(#[$doc:meta])*
        $raw:ident, $(#[$of_entries:meta])* $entries:ident, $options:ident, $place:literal {
            $($key:ident: $type:ty $(= $default:tt)? $(, [$option:literal $($arg:tt)*])?, $help:literal;)*
        }
        $(values $(#[$of_values:meta])* $values:ident, $(#[$of_by_hand:meta])* $by_hand:ident {
            $($value:ident: $kind:ty $(= $value_default:tt)? $(, [$value_option:literal $($value_arg:tt)*])?, $value_help:literal $(, $meaning:literal)?;)+
        })?
        $(tables { $($below:ident $(as $name:literal)?: $below_type:ty = $below_kind:expr;)+ })?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $raw {
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $key: Option<toml::Spanned<$type>>,
            )*
            $($(
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $value: Option<toml::Spanned<$crate::config::kinds::WrittenAs<$kind>>>,
            )+)?
            $($(
                $(#[serde(rename = $name)])?
                pub $below: $below_type,
            )+)?
        }

        /// The options that override keys of this table.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct $options {
            $($(
                #[arg(help = $help, $($arg)*)]
                pub $key: Option<$type>,
            )?)*
            $($($(
                #[arg(help = $value_help, $($value_arg)*)]
                pub $value: Option<$crate::config::kinds::WrittenAs<$kind>>,
            )?)+)?
        }

        impl $raw {
            pub const TABLE: $crate::config::declare::KeyTable = $crate::config::declare::KeyTable {
                place: $place,
                keys: &[
                    $($crate::config::declare::Key {
                        name: stringify!($key),
                        kind: <$type as $crate::config::declare::Written>::KIND,
                        option: $crate::config::table::table!(@first $($option)?),
                        default: $crate::config::table::table!(@text $($default)?),
                        help: $help,
                        facts: None,
                    },)*
                    $($($crate::config::declare::Key {
                        name: stringify!($value),
                        kind: <$crate::config::kinds::WrittenAs<$kind> as $crate::config::declare::Written>::KIND,
                        option: $crate::config::table::table!(@first $($value_option)?),
                        default: $crate::config::table::table!(@text $($value_default)?),
                        help: $value_help,
                        facts: Some($crate::config::kinds::facts::<$kind>(
                            $crate::config::table::table!(@meaning $value_help $($meaning)?),
                        )),
                    },)+)?
                    $($($crate::config::declare::Key {
                        name: $crate::config::table::table!(@name $below $($name)?),
                        kind: $below_kind,
                        option: None,
                        default: None,
                        help: "",
                        facts: None,
                    },)+)?
                ],
            };

            /// Leaves out the keys that have their default.
            pub fn without_defaults(&mut self) {
                $(
                    let default: Option<$type> =
                        $crate::config::table::table!(@default $type $(, $default)?);
                    self.$key = self.$key.take().filter(|value| Some(value.get_ref()) != default.as_ref());
                )*
                $($(
                    let default: Option<$crate::config::kinds::WrittenAs<$kind>> =
                        $crate::config::table::table!(@default $crate::config::kinds::WrittenAs<$kind> $(, $value_default)?);
                    self.$value = self.$value.take().filter(|value| Some(value.get_ref()) != default.as_ref());
                )+)?
            }
        }

        impl $options {
            /// The options that were given, each with the line that says the same in the file.
            pub fn given(&self) -> Vec<(&'static str, String)> {
                let given: &[Option<(&'static str, String)>] = &[
                    $($(
                        self.$key.as_ref().map(|value| {
                            let value = $crate::config::declare::Written::toml(value);
                            ($option, format!("{} = {value}", stringify!($key)))
                        }),
                    )?)*
                    $($($(
                        self.$value.as_ref().map(|value| {
                            let value = $crate::config::declare::Written::toml(value);
                            ($value_option, format!("{} = {value}", stringify!($value)))
                        }),
                    )?)+)?
                ];
                given.iter().flatten().cloned().collect()
            }
        }

        $crate::config::table::table!(@entries
            $raw, $(#[$of_entries])* $entries, $options { $($key: $type $(= $default)? $(, [$option])?;)* }
        );
        $crate::config::table::table!(@values
            $raw, $options { $($key: $type;)* }
            $($(#[$of_values])* $values, $(#[$of_by_hand])* $by_hand { $($value: $kind $(= $value_default)? $(, [$value_option])?, $value_help;)+ })?
            $({ $($below: $below_type;)+ })?
        );
    };
    (@entries $raw:ident, $(#[$of_entries:meta])* $entries:ident, $options:ident {}) => {};
    (@entries
        $raw:ident, $(#[$of_entries:meta])* $entries:ident, $options:ident { $($key:ident: $type:ty $(= $default:tt)? $(, [$option:literal])?;)+ }
    ) => {
        /// The values of this table that are resolved by hand, with their locations and defaults.
        #[derive(Clone, Debug)]
        $(#[$of_entries])*
        pub struct $entries {
            $(pub $key: $crate::config::declare::Entry<$type>,)+
        }

        impl $raw {
            /// With the options, which override what is here.
            pub fn entries(&mut self, options: &$options) -> $entries {
                let _: &$options = options;
                $entries {
                    $($key: $crate::config::declare::Entry::new(
                        $crate::config::table::table!(@given options $key $($option)?),
                        self.$key.take(),
                        $crate::config::table::table!(@default $type $(, $default)?),
                    ),)+
                }
            }
        }
    };
    (@values $raw:ident, $options:ident { $($key:ident: $type:ty;)* } $({ $($below:ident: $below_type:ty;)+ })?) => {};
    (@values
        $raw:ident, $options:ident { $($key:ident: $type:ty;)* }
        $(#[$of_values:meta])* $values:ident, $(#[$of_by_hand:meta])* $by_hand:ident { $($value:ident: $kind:ty $(= $default:tt)? $(, [$option:literal])?, $help:literal;)+ }
        $({ $($below:ident: $below_type:ty;)+ })?
    ) => {
        /// The values of this table that follow from their kinds.
        $(#[$of_values])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $values {
            $(
                #[doc = $help]
                pub $value: <$kind as $crate::config::kinds::Kind>::Value,
            )+
        }

        /// The rest of the table, as it is written.
        #[derive(Debug, Default)]
        $(#[$of_by_hand])*
        pub struct $by_hand {
            $(pub $key: Option<toml::Spanned<$type>>,)*
            $($(pub $below: $below_type,)+)?
        }

        impl $raw {
            /// Parses the values; reports each that is refused.
            pub fn values(&mut self, options: &$options, to: &mut impl $crate::config::kinds::Refusals) -> $values {
                let _: &$options = options;
                $values {
                    $($value: $crate::config::kinds::value::<$kind>($crate::config::declare::Entry::new(
                        $crate::config::table::table!(@given options $value $($option)?),
                        self.$value.take(),
                        $crate::config::table::table!(@default $crate::config::kinds::WrittenAs<$kind> $(, $default)?),
                    ), to),)+
                }
            }

            /// The table that resolves to these values.
            pub fn of(values: &$values, by_hand: $by_hand) -> Self {
                let _: &$by_hand = &by_hand;
                Self {
                    $($key: by_hand.$key,)*
                    $($value: <$kind as $crate::config::kinds::Kind>::show(&values.$value)
                        .map(|value| toml::Spanned::new(0..0, value)),)+
                    $($($below: by_hand.$below,)+)?
                }
            }
        }

        impl $values {
            /// The keys whose values differ.
            pub fn changed(&self, new: &Self) -> Vec<&'static str> {
                let differs = [$((stringify!($value), self.$value != new.$value)),+];
                differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
            }
        }
    };
    (@meaning $help:literal) => { $help };
    (@meaning $help:literal $meaning:literal) => { $meaning };
    (@first) => { None };
    (@first $option:literal) => { Some($option) };
    (@text) => { None };
    (@text $default:tt) => { Some(stringify!($default)) };
    (@name $key:ident) => { stringify!($key) };
    (@name $key:ident $name:literal) => { $name };
    (@given $options:ident $key:ident) => { None };
    (@given $options:ident $key:ident $option:literal) => {
        $options.$key.clone().map(|value| $crate::config::declare::Located {
            value,
            at: $crate::config::declare::Location::Option($option),
        })
    };
    (@default $type:ty) => { None };
    (@default $type:ty, $default:tt) => {
        Some(<$type as $crate::config::declare::Written>::literal($default))
    };
}

pub(super) use table;
