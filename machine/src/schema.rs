//! OpenAPI schemas of the types whose JSON form is not derived. Empty without the feature `openapi`.

#[cfg(feature = "openapi")]
pub(crate) mod of {
    pub(crate) use utoipa::openapi::schema::{
        KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type,
    };
    pub(crate) use utoipa::openapi::{RefOr, Schema};
    pub(crate) use utoipa::{PartialSchema, ToSchema};

    pub(crate) fn text() -> ObjectBuilder {
        ObjectBuilder::new().schema_type(Type::String)
    }

    pub(crate) fn pattern(pattern: &str, min: usize, max: usize) -> ObjectBuilder {
        text()
            .pattern(Some(pattern))
            .min_length(Some(min))
            .max_length(Some(max))
    }

    pub(crate) fn number(min: usize, max: usize) -> ObjectBuilder {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(min))
            .maximum(Some(max))
    }

    /// Where a transition starts.
    pub(crate) fn move_from() -> utoipa::openapi::schema::OneOfBuilder {
        use utoipa::openapi::schema::{ArrayBuilder, OneOfBuilder};
        let several = ArrayBuilder::new().items(text());
        OneOfBuilder::new().item(text()).item(several)
    }

    pub(crate) fn object(key: ObjectBuilder, value: impl Into<Schema>) -> ObjectBuilder {
        ObjectBuilder::new()
            .property_names(Some(key.build()))
            .additional_properties(Some(value.into()))
    }
}

/// The schema of a type that is built by the expression.
macro_rules! schema {
    ($type:ident, $schema:expr) => {
        #[cfg(feature = "openapi")]
        impl crate::schema::of::PartialSchema for $type {
            fn schema() -> crate::schema::of::RefOr<crate::schema::of::Schema> {
                #[allow(unused_imports)]
                use crate::schema::of::*;
                RefOr::T($schema.build().into())
            }
        }

        #[cfg(feature = "openapi")]
        impl crate::schema::of::ToSchema for $type {}
    };
}

/// The schema of a type whose JSON form is that of another.
macro_rules! as_fields {
    ($type:ident, $fields:ident) => {
        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $fields::schema()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $type {
            fn schemas(
                schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>,
            ) {
                $fields::schemas(schemas);
            }
        }
    };
}

pub(crate) use {as_fields, schema};
