//! The description of an operation in `/openapi.json`, made from the signature of its handler.
//!
//! Each type that a handler takes is an [`Input`] and adds its parameters, its body and the errors of
//! reading it. The type that a handler returns is an [`Output`] and adds the successful response. What
//! the signature does not show, the table of routes adds.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::HeaderName;
use axum::response::Response;
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, Ref, RefOr, Required, Response as Described, Responses, Schema};

use super::described::{Refusals, UNANSWERED, plain, whole_number};
use crate::api::call::Call;
use crate::api::problem::{PROBLEM, Problem};

/// The description so far.
#[derive(Default)]
pub(super) struct Description {
    parameters: Vec<Parameter>,
    body: Option<RequestBody>,
    responses: BTreeMap<u16, Described>,
    /// The types of bodies, by name.
    pub(super) schemas: BTreeMap<String, RefOr<Schema>>,
}

impl Description {
    pub(super) fn parameter(&mut self, parameter: Parameter) -> &mut Self {
        self.parameters.push(parameter);
        self
    }

    pub(super) fn body<T: ToSchema>(&mut self, what: Option<&str>, media_types: &[&str]) {
        let content = self.content::<T>();
        let body = RequestBodyBuilder::new()
            .description(what)
            .required(Some(Required::True));
        let add = |body: RequestBodyBuilder, it: &&str| body.content(*it, content.clone());
        self.body = Some(media_types.iter().fold(body, add).build());
    }

    /// The body may be left out: its fields are all optional.
    pub(super) fn body_is_optional(&mut self) -> &mut Self {
        if let Some(body) = &mut self.body {
            body.required = Some(Required::False);
        }
        self
    }

    /// A successful response of the type `T`.
    pub(super) fn answers<T: ToSchema>(
        &mut self,
        status: u16,
        what: &str,
        media_types: &[&str],
    ) -> &mut Self {
        let content = self.content::<T>();
        let response = self.responses.entry(status).or_default();
        what.clone_into(&mut response.description);
        let contents = media_types.iter().map(|it| (*it).to_owned());
        let contents = contents.map(|it| (it, content.clone().into()));
        response.content.extend(contents);
        self
    }

    /// A header of a response that was added.
    pub(super) fn header(&mut self, status: u16, name: &str, what: &str) -> &mut Self {
        let header = HeaderBuilder::new()
            .schema(Some(plain().build()))
            .description(Some(what));
        let response = self.responses.entry(status).or_default();
        let headers = &mut response.headers;
        headers.insert(name.to_owned(), header.build().into());
        self
    }

    /// Errors, as problem documents.
    pub(super) fn refuses(&mut self, refusals: Refusals) -> &mut Self {
        for (status, what) in refusals {
            self.responses.insert(*status, refusal(*status, what));
        }
        self
    }

    /// Errors as lines of text, except those that are raised before the route is reached.
    pub(super) fn refuses_in_text(&mut self, refusals: Refusals) -> &mut Self {
        let line = self.content::<String>();
        for (status, what) in refusals {
            let mut response = refusal(*status, what);
            if !matches!(status, 400 | 503 | 504) {
                response.content.clear();
            }
            let line = line.clone().into();
            response.content.insert("text/plain".to_owned(), line);
            self.responses.insert(*status, response);
        }
        self
    }

    /// The schema of a type: by reference, unless it is no type of this interface.
    fn content<T: ToSchema>(&mut self) -> Content {
        let name = T::name();
        match &*name {
            "String" => return Content::new(Some(T::schema())),
            "Value" => return Content::new(Some(ObjectBuilder::new().schema_type(Type::Object))),
            _ => {}
        }
        let mut schemas = vec![];
        T::schemas(&mut schemas);
        self.schemas.extend(schemas);
        self.schemas.insert(name.to_string(), T::schema());
        Content::new(Some(Ref::from_schema_name(name)))
    }

    pub(super) fn has_body(&self) -> bool {
        self.body.is_some()
    }

    pub(super) fn has_header(&self, name: &str) -> bool {
        let mut headers = self
            .parameters
            .iter()
            .filter(|it| it.parameter_in == ParameterIn::Header);
        headers.any(|it| it.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn build(self, id: &str, tag: &str, summary: &str) -> Operation {
        let parameters = Some(self.parameters).filter(|it| !it.is_empty());
        let responses = self.responses.into_iter();
        let responses = responses.map(|(status, response)| (status.to_string(), response));
        OperationBuilder::new()
            .operation_id(Some(id))
            .tag(tag)
            .summary(Some(summary))
            .parameters(parameters)
            .request_body(self.body)
            .responses(responses.collect::<Responses>())
            .build()
    }
}

/// An error as a problem document.
fn refusal(status: u16, what: &str) -> Described {
    let body = Content::new(Some(Ref::from_schema_name("ProblemBody")));
    let mut response = Described::new(what);
    response.content.insert(PROBLEM.to_owned(), body.into());
    if matches!(status, 429 | 503) {
        let header = HeaderBuilder::new()
            .schema(Some(whole_number(1, 3600).build()))
            .description(Some("Seconds; absent if there is no hint"));
        let headers = &mut response.headers;
        headers.insert("Retry-After".to_owned(), header.build().into());
    }
    response
}

/// A part of a request.
pub(super) trait Input {
    /// Adds it to the description.
    fn describe(_: &mut Description) {}
}

macro_rules! undescribed {
    ($($type:ty),+) => {
        $(impl Input for $type {})+
    };
}

undescribed!(
    axum::body::Body,
    axum::extract::State<std::sync::Arc<crate::api::Edge>>,
    axum::http::HeaderMap,
    axum::http::Method,
    axum::http::Uri
);

impl Input for Call {
    fn describe(description: &mut Description) {
        description.refuses(UNANSWERED);
    }
}

/// A part whose faults the handler itself answers.
impl<T: Input> Input for Result<T, Problem> {
    fn describe(description: &mut Description) {
        T::describe(description);
    }
}

/// A response.
pub(super) trait Output {
    /// Adds it to the description; `what` says what it is.
    fn describe(description: &mut Description, status: u16, what: &str);
}

/// A response that only the table of routes describes.
impl Output for Response {
    fn describe(_: &mut Description, _: u16, _: &str) {}
}

impl<T: ToSchema> Output for Json<T> {
    fn describe(description: &mut Description, status: u16, what: &str) {
        description.answers::<T>(status, what, &["application/json"]);
    }
}

impl<T: Output> Output for (StatusCode, T) {
    fn describe(description: &mut Description, status: u16, what: &str) {
        T::describe(description, status, what);
    }
}

impl<T: Output> Output for (StatusCode, [(HeaderName, String); 1], T) {
    fn describe(description: &mut Description, status: u16, what: &str) {
        T::describe(description, status, what);
    }
}

impl<T: Output> Output for Result<T, Problem> {
    fn describe(description: &mut Description, status: u16, what: &str) {
        T::describe(description, status, what);
    }
}

/// A handler with these inputs.
pub(super) trait Handles<Inputs> {
    /// Adds its signature to the description.
    fn describe(description: &mut Description, status: u16, what: &str);
}

macro_rules! handlers {
    ($($input:ident)*) => {
        impl<H, F, O, $($input),*> Handles<($($input,)*)> for H
        where
            H: Fn($($input),*) -> F,
            F: Future<Output = O>,
            O: Output,
            $($input: Input,)*
        {
            fn describe(description: &mut Description, status: u16, what: &str) {
                $($input::describe(description);)*
                O::describe(description, status, what);
            }
        }
    };
}

handlers!();
handlers!(A);
handlers!(A B);
handlers!(A B C);
handlers!(A B C D);
handlers!(A B C D E);
