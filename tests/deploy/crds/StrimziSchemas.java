// Writes the schemas of KafkaTopic and KafkaUser, read from the classes that Strimzi publishes
// (io.strimzi:api): the CRDs themselves are in no package registry. See make.py.
package io.strimzi.crdgenerator.annotations;

import com.fasterxml.jackson.annotation.JsonSubTypes;
import com.fasterxml.jackson.databind.JavaType;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.introspect.BeanPropertyDefinition;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.File;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.reflect.AnnotatedElement;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

// Strimzi's annotations with these names come without their classes: these stand in for them.
@Retention(RetentionPolicy.RUNTIME)
@interface Minimum {
    int value();
}

@Retention(RetentionPolicy.RUNTIME)
@interface Maximum {
    int value();
}

public class StrimziSchemas {
    static final ObjectMapper MAPPER = new ObjectMapper();

    public static void main(String[] words) throws Exception {
        String models = "io.strimzi.api.kafka.model.";
        for (String kind : List.of("topic.KafkaTopic", "user.KafkaUser")) {
            ObjectNode schema = MAPPER.createObjectNode().put("type", "object");
            ObjectNode properties = schema.putObject("properties");
            properties.set("spec", object(Class.forName(models + kind + "Spec")));
            Class<?> type = Class.forName(models + kind);
            ObjectNode version = properties.putObject("apiVersion").put("type", "string");
            for (Object each : (List<?>) type.getField("VERSIONS").get(null)) {
                Object group = type.getField("RESOURCE_GROUP").get(null);
                version.withArray("enum").add(group + "/" + each);
            }
            String name = kind.substring(kind.indexOf('.') + 1);
            MAPPER.writeValue(new File(words[0], name + ".json"), schema);
        }
    }

    static ObjectNode object(Class<?> type) throws Exception {
        ObjectNode schema = MAPPER.createObjectNode().put("type", "object");
        ObjectNode properties = schema.putObject("properties");
        Set<String> required = new TreeSet<>();
        add(type, properties, required);
        JsonSubTypes kinds = type.getAnnotation(JsonSubTypes.class);
        if (kinds != null) {
            // As in Strimzi's CRDs: the properties of all kinds, and which kinds there are.
            ObjectNode names = properties.putObject("type").put("type", "string");
            required.add("type");
            for (JsonSubTypes.Type kind : kinds.value()) {
                names.withArray("enum").add(kind.name());
                add(kind.value(), properties, new TreeSet<>());
            }
        }
        if (!required.isEmpty()) {
            required.forEach(schema.withArray("required")::add);
        }
        return schema;
    }

    static void add(Class<?> type, ObjectNode properties, Set<String> required) throws Exception {
        JavaType bean = MAPPER.constructType(type);
        for (BeanPropertyDefinition property :
                MAPPER.getSerializationConfig().introspect(bean).findProperties()) {
            String name = property.getName();
            if (properties.has(name) || name.equals("additionalProperties")) {
                continue;
            }
            ObjectNode schema = value(property.getPrimaryType());
            for (AnnotatedElement place : places(property)) {
                Minimum least = place.getAnnotation(Minimum.class);
                Maximum most = place.getAnnotation(Maximum.class);
                if (least != null) {
                    schema.put("minimum", least.value());
                }
                if (most != null) {
                    schema.put("maximum", most.value());
                }
            }
            properties.set(name, schema);
            if (property.isRequired()) {
                required.add(name);
            }
        }
    }

    static List<AnnotatedElement> places(BeanPropertyDefinition property) {
        List<AnnotatedElement> found = new ArrayList<>();
        if (property.getGetter() != null) {
            found.add(property.getGetter().getAnnotated());
        }
        if (property.getField() != null) {
            found.add(property.getField().getAnnotated());
        }
        return found;
    }

    static ObjectNode value(JavaType type) throws Exception {
        ObjectNode schema = MAPPER.createObjectNode();
        Class<?> raw = type.getRawClass();
        if (type.isCollectionLikeType()) {
            schema.put("type", "array").set("items", value(type.getContentType()));
        } else if (Map.class.isAssignableFrom(raw)) {
            schema.put("type", "object");
            if (type.getContentType().getRawClass() == String.class) {
                schema.putObject("additionalProperties").put("type", "string");
            } else {
                schema.put("x-kubernetes-preserve-unknown-fields", true);
            }
        } else if (raw.isEnum()) {
            schema.put("type", "string");
            for (Object each : raw.getEnumConstants()) {
                schema.withArray("enum").add(MAPPER.valueToTree(each).asText());
            }
        } else if (raw == String.class) {
            schema.put("type", "string");
        } else if (raw == boolean.class || raw == Boolean.class) {
            schema.put("type", "boolean");
        } else if (raw == double.class || raw == Double.class) {
            schema.put("type", "number");
        } else if (raw.isPrimitive() || Number.class.isAssignableFrom(raw)) {
            schema.put("type", "integer");
        } else {
            return object(raw);
        }
        return schema;
    }
}
