//! What Node.js 0.10 would say of itself if its first release had metadata: what the
//! last one does, whose V8 has the same version but for a patch. It is for live objects
//! to tell whether it is true (`Layout::check_objects`).

use crate::metadata::Metadata;
use crate::version::Version;

/// What is known of `version` where the build itself tells nothing.
pub(super) fn metadata(version: Version) -> Option<Metadata> {
    (version == Version::new(3, 14)).then(|| V3_14.into_iter().collect())
}

/// `EntryFrameConstants::kCallerFPOffset` in src/x64/frames-x64.h of 3.14; the builds
/// without metadata are those whose C++ has no frame pointers.
pub(super) const ENTRY_CALLER: i32 = -64;

const V3_14: [(&str, i32); 41] = [
    ("AsciiStringTag", 4),
    ("ConsStringTag", 1),
    ("ExternalStringTag", 2),
    ("NotStringTag", 128),
    ("StringEncodingMask", 4),
    ("StringRepresentationMask", 3),
    ("class_Code__deoptimization_data__FixedArray", 28),
    ("class_Code__gc_metadata__Object", 44),
    ("class_Code__instruction_size__int", 8),
    ("class_Code__instruction_start__uintptr_t", 96),
    ("class_Code__relocation_info__ByteArray", 12),
    ("class_ConsString__second__String", 32),
    ("class_ExternalString__resource__Object", 24),
    ("class_JSFunction__shared__SharedFunctionInfo", 40),
    ("class_Map__instance_attributes__int", 12),
    ("class_Script__column_offset__SMI", 32),
    ("class_Script__id__Object", 96),
    ("class_Script__line_ends__Object", 88),
    ("class_Script__line_offset__SMI", 24),
    ("class_Script__name__Object", 16),
    ("class_Script__source__Object", 8),
    ("class_Script__type__SMI", 64),
    ("class_SeqAsciiString__chars__char", 24),
    ("class_SharedFunctionInfo__code__Code", 16),
    ("class_SharedFunctionInfo__end_position__SMI", 128),
    ("class_SharedFunctionInfo__function_data__Object", 56),
    ("class_SharedFunctionInfo__inferred_name__String", 80),
    ("class_SharedFunctionInfo__name__Object", 8),
    ("class_SharedFunctionInfo__script__Object", 64),
    (
        "class_SharedFunctionInfo__start_position_and_type__SMI",
        132,
    ),
    ("class_SlicedString__offset__SMI", 32),
    ("class_String__length__SMI", 8),
    ("off_fp_context", -8),
    ("off_fp_function", -16),
    ("type_ByteArray__BYTE_ARRAY_TYPE", 134),
    ("type_Code__CODE_TYPE", 129),
    ("type_FixedArray__FIXED_ARRAY_TYPE", 163),
    ("type_JSFunction__JS_FUNCTION_TYPE", 181),
    ("type_Oddball__ODDBALL_TYPE", 130),
    ("type_Script__SCRIPT_TYPE", 156),
    ("type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE", 164),
];
